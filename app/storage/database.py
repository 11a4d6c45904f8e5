"""Decides which volume has the database of the control plane, so that no server starts with an empty one instead.

The Go operator gives the database a claim of its own from 0.18 on. This operator mounts that claim wherever it exists,
and otherwise a folder of the metadata volume.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.storage.live import LiveState
from app.storage.pod import mounted_claims, server_container
from app.storage.spec import DittoServer
from app.storage.unstructured import Manifest
from app.storage.volumes import CONTROL_PLANE, DATABASE_MOUNT_PATH, METADATA, Volume, control_plane_volume

# What the Go operator asks for when its spec names no size.
_DEFAULT_SIZE = "1Gi"


def database_template(server: DittoServer, live: LiveState) -> str:
    """Returns the name of the claim template to mount for the database: METADATA or CONTROL_PLANE.

    What the pod mounts stays as it is: another volume has another database.
    """
    if mounted := mounted_database(server.metadata.name, live):
        return mounted
    return CONTROL_PLANE if _has_claim(server.metadata.name, live) else METADATA


def database_volume(server: DittoServer, live: LiveState) -> Volume | None:
    """Returns the volume that only the database is on, with the size that it has; None when there is none."""
    if database_template(server, live) != CONTROL_PLANE:
        return None

    claim = live.claims.get(control_plane_volume(None).claim_name(server.metadata.name))
    templates = ((live.stateful_set or {}).get("spec") or {}).get("volumeClaimTemplates") or []
    requests = [
        (template["spec"].get("resources") or {}).get("requests") or {}
        for template in templates
        if template["metadata"]["name"] == CONTROL_PLANE
    ]
    of_template = next((request.get("storage") for request in requests), None)
    size = (claim and (claim.requested or claim.capacity)) or of_template or _DEFAULT_SIZE
    return control_plane_volume(size, server.spec.storage.storage_class_name)


def unmounted_database(server: DittoServer, live: LiveState) -> str | None:
    """Explains that a claim with a database exists which the pod does not mount; None when that is not the case.

    Versions of this operator before they knew that claim have started such servers with an empty database.
    """
    name = server.metadata.name
    if not _has_claim(name, live) or database_template(server, live) == CONTROL_PLANE:
        return None

    claim = control_plane_volume(None).claim_name(name)
    return (
        f"volume claim {claim} has a database that the server does not use: an earlier version of the operator created "
        f"another one on volume claim {METADATA}-{name}-0. To go back to the database of {claim}, delete StatefulSet "
        f"{name} and its pod; to stay with the current one, delete {claim}"
    )


def mounted_database(name: str, live: LiveState) -> str | None:
    """Returns which claim template the pod mounts for the database, METADATA or CONTROL_PLANE.

    None when there is no pod to be, or when it keeps the database on no volume, as with the Go operator up to 0.17.
    """
    stateful_sets = filter(None, (live.stateful_set, live.removed))
    pods = [(stateful_set.get("spec") or {}).get("template") or {} for stateful_set in stateful_sets]
    # A pod that has lost its StatefulSet is adopted, provided that it is on the volumes of this server.
    if live.named_pod and f"{METADATA}-{name}-0" in mounted_claims(live.named_pod):
        pods.append(live.named_pod)

    names = (mount.get("name") for pod in pods for mount in database_mounts(pod))
    return next((template for template in names if template in (METADATA, CONTROL_PLANE)), None)


def database_mounts(pod: Mapping[str, Any]) -> Iterator[Manifest]:
    """Returns what the server's container in a pod, or in its template, mounts where its database is."""
    mounts = server_container(pod).get("volumeMounts") or []
    return (mount for mount in mounts if mount.get("mountPath") == DATABASE_MOUNT_PATH)


def _has_claim(server: str, live: LiveState) -> bool:
    return control_plane_volume(None).claim_name(server) in live.claims
