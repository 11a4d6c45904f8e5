"""Writes what this version of the operator makes of servers.yaml: a file per server, into the folder that is named.

`python -m tests.released` runs it in the tree of a released version.
"""

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from app.storage.defaulting import set_defaults
from app.storage.difference import marked
from app.storage.objects import Owner, admin_secret, claim_template, claim_templates, jwt_secret, stateful_set
from app.storage.pod import PodRevision
from app.storage.provisioning import Hashes
from app.storage.reading import read
from app.storage.rendering import NEWEST, Rendering
from app.storage.unstructured import Manifest
from app.storage.volumes import CONTROL_PLANE, control_plane_volume
from app.storage.workload import restarted_at
from tests.harness.released_servers import FOLDER, NAMESPACE, UID, ReleasedServer, applied_objects, digests

# The server that was taken over from the Go operator, which gave it one more volume.
ADOPTED = "adopted"


def released_servers() -> Iterator[ReleasedServer]:
    """Yields each server in each rendering that it may have; a stopped one has the newest."""
    documents = list(yaml.safe_load_all((FOLDER / "servers.yaml").read_text()))
    secrets = [_secret(document) for document in documents if document["kind"] == "Secret"]

    for server in (document for document in documents if document["kind"] == "DittoServer"):
        is_stopped = server["spec"].get("replicas") == 0
        for rendering in [NEWEST] if is_stopped else Rendering:
            name = server["metadata"]["name"] + ("" if rendering is NEWEST else f"-{rendering.name.lower()}")
            name = name.replace("_", "-")
            metadata = {**server["metadata"], "name": name, "namespace": NAMESPACE, "uid": UID}
            stored = set_defaults({**server, "metadata": metadata})
            yield _released(stored, secrets, rendering, is_adopted=server["metadata"]["name"] == ADOPTED)


def _secret(document: Manifest) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in document["stringData"].items()}
    metadata = {**document["metadata"], "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def _released(server: Manifest, secrets: list[Manifest], rendering: Rendering, *, is_adopted: bool) -> ReleasedServer:
    model, owner = read(server).server, Owner(server["metadata"]["name"], NAMESPACE, UID)
    known = [secret for secret in secrets if f'"{secret["metadata"]["name"]}"' in json.dumps(server["spec"])]
    known += [jwt_secret(owner, b"0" * 64), admin_secret(owner, "password of 24 characters")]

    hashes = Hashes.of(model, {name: digest.digests for name, digest in digests(known).items()}, rendering)
    revision, templates = PodRevision(rendering, hashes.full, restarted_at(server)), claim_templates(model.spec)
    if is_adopted:
        revision = replace(revision, has_writable_root=True, database=CONTROL_PLANE)
        templates.append(claim_template(control_plane_volume("1Gi", model.spec.storage.storage_class_name)))

    live = stateful_set(owner, model.spec, revision, templates)
    released = ReleasedServer(server, known, applied_objects(server, known, [live]))
    assert released.stateful_set == marked(live)
    return released


def main(folder: Path) -> None:
    for released in released_servers():
        manifests = released.server, *released.secrets, *released.objects
        lines = [json.dumps(manifest, separators=(",", ":")) + "\n" for manifest in manifests]
        (folder / f"{released.server['metadata']['name']}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
