"""Servers as released versions of the operator left them: the server, its Secrets, and the objects that were applied.

`python -m tests.released` writes them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.cluster.secrets import SecretDigest
from app.storage.desired import desired
from app.storage.difference import marked
from app.storage.live import LiveState
from app.storage.reading import read
from app.storage.unstructured import Manifest
from app.storage.workload import restarted_at
from tests.harness.operator_namespace import Namespace

FOLDER = Path(__file__).parent.parent / "released"
# The folder of the chart in that of a version, and its definition there.
CHART = "chart"
CRD = f"{CHART}/files/crd.yaml"
NAMESPACE, UID = "released", "00000000-0000-0000-0000-000000000000"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
# What every released version has put on each object that it applied.
_APPLIED = "dittofs.io/applied"
MANAGER = "--field-manager=dittofs-operator"
# What created an object, and what changed it, leave other managedFields behind.
WRITES = {"created": ("create", MANAGER), "changed": ("apply", "--server-side", MANAGER)}


@dataclass(frozen=True)
class ReleasedServer:
    """One server of a released version; `secrets` are those that its pod reads, `objects` what was applied to it."""

    server: Manifest
    secrets: Sequence[Manifest]
    objects: Sequence[Manifest]

    @property
    def name(self) -> str:
        name: str = self.server["metadata"]["name"]
        return name

    @property
    def stateful_set(self) -> Manifest:
        return next(manifest for manifest in self.objects if manifest["kind"] == "StatefulSet")

    def moved_to(self, namespace: str, uid: str) -> "ReleasedServer":
        """Returns the same server of another namespace and uid, its objects as the released version applies them."""
        text = json.dumps([self.server, self.secrets, self.objects])
        server, secrets, objects = json.loads(text.replace(UID, uid).replace(f'"{NAMESPACE}"', f'"{namespace}"'))
        return ReleasedServer(server, secrets, [_marked(manifest) for manifest in objects])


def released_servers() -> dict[str, ReleasedServer]:
    """Returns the servers of all released versions, by version and name."""
    files = sorted(FOLDER.glob("*/*.jsonl"))
    assert files, f"no released servers in {FOLDER}"
    return {f"{file.parent.name}/{file.stem}": _read(file) for file in files}


def leave_behind(site: Namespace, released: ReleasedServer, how: str) -> None:
    """Writes a server and its objects as the released version did."""
    here = released.moved_to(site.namespace, "")
    site.kubectl("create", "-f", "-", input=json.dumps(here.server))
    uid = site.get("dittoserver", released.name)["metadata"]["uid"]

    here = released.moved_to(site.namespace, uid)
    site.apply(*here.secrets)
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": here.objects})
    site.kubectl(*WRITES[how], "-f", "-", input=items)


def _read(file: Path) -> ReleasedServer:
    server, *manifests = (json.loads(line) for line in file.read_text().splitlines())
    applied = [manifest for manifest in manifests if _APPLIED in manifest["metadata"].get("annotations", {})]
    return ReleasedServer(server, [manifest for manifest in manifests if manifest not in applied], applied)


def _marked(manifest: Manifest) -> Manifest:
    """Computes the digest again, on its own: what was released never changes, whatever becomes of the operator."""
    metadata = {**manifest["metadata"], "annotations": {**manifest["metadata"]["annotations"]}}
    del metadata["annotations"][_APPLIED]
    if not metadata["annotations"]:
        del metadata["annotations"]

    spec = {name: value for name, value in manifest.get("spec", {}).items() if name != "volumeClaimTemplates"}
    content = json.dumps({**manifest, "metadata": metadata, "spec": spec}, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()[:16]
    annotations = {**metadata.get("annotations", {}), _APPLIED: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def applied_objects(server: Manifest, secrets: Sequence[Manifest], objects: Sequence[Manifest]) -> list[Manifest]:
    """Returns what the operator of this version applies to a server that has these objects already."""
    known = digests(secrets)
    dsn = next((secret for secret in secrets if "dsn" in secret["data"]), None)
    present: dict[str, dict[str, Manifest]] = {"StatefulSet": {}, "ConfigMap": {}, "Service": {}, "Secret": {}}
    for manifest in objects:
        name = manifest["metadata"]["name"]
        present[manifest["kind"]][name] = {**manifest, "metadata": {**manifest["metadata"], "uid": f"of {name}"}}

    live = LiveState(
        uid=server["metadata"]["uid"],
        stateful_set=next(iter(present["StatefulSet"].values()), None),
        config_map=next(iter(present["ConfigMap"].values()), None),
        services=present["Service"],
        restarted_at=restarted_at(server),
        secrets={name: digest.secret for name, digest in known.items()},
        digests={name: digest.digests for name, digest in known.items()},
        postgres_source=dsn,
        postgres_secret=next(iter(present["Secret"].values()), None),
    )

    plan = desired(read(server).server, live, NOON)
    return [marked(write.manifest) for write in plan.apply]


def digests(secrets: Sequence[Manifest]) -> dict[str, SecretDigest]:
    """Returns what the operator remembers of these Secrets, by name."""
    return {
        secret["metadata"]["name"]: SecretDigest.read({**secret, "metadata": {"resourceVersion": "1"}})
        for secret in secrets
    }
