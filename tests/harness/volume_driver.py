"""A volume driver for a control plane that has none: it provisions volumes for claims and expands them, or refuses to.

It reports in the claims what a real provisioner, a real resizer and the kubelet would report.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Self

import httpx

from app.storage import quantity
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import REQUEST_SECONDS, ControlPlane
from tests.harness.background import Background

PROVISIONER = "disks.example.com"
PAUSE_SECONDS = 0.02
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True)
class Expansion:
    """The way volumes expand: after so many seconds, only when no pod uses them (`offline`), or not beyond `most`."""

    seconds: float = 0.0
    offline: bool = False
    most: str | None = None


ONLINE = Expansion()


class VolumeDriver(Background):
    """Works in one namespace inside a `with`, for a StorageClass that is named after the namespace, and for more.

    `expansion` can be changed at any time; `claim_expansions` replace it for single claims. It never shrinks a volume.
    It restores claims only from VolumeSnapshots whose names are in `snapshots`.
    """

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        super().__init__()
        self.expansion = ONLINE
        self.claim_expansions: dict[str, Expansion] = {}
        self.snapshots: set[str] = set()
        self.namespace = namespace
        self._expanding_since: dict[tuple[str, str], float] = {}
        self._pods: dict[str, str] = {}
        self._provisioned: set[str] = set()
        self._classes: set[str] = set()
        trust = ssl.create_default_context(cafile=control_plane.ca_file)
        headers = {"Authorization": f"Bearer {control_plane.token}"}
        self._client = httpx.Client(
            base_url=control_plane.url, headers=headers, verify=trust, trust_env=False, timeout=REQUEST_SECONDS
        )

    def __enter__(self) -> Self:
        self.put_class(expandable=True)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for name in self._classes:
            self.remove_class(name)
        for uid in self._provisioned:
            self._client.delete(f"/api/v1/persistentvolumes/{uid}")
        self._client.close()

    @property
    def storage_class(self) -> str:
        return self.namespace

    def bind(self, claim: Manifest) -> None:
        """Provisions a volume for a claim of another class, which the driver would otherwise ignore."""
        self._provision(claim)

    def put_class(self, name: str = "", *, expandable: bool) -> None:
        """Creates or changes a StorageClass of the driver, by default the one that is named after the namespace."""
        name, path = name or self.storage_class, "/apis/storage.k8s.io/v1/storageclasses"
        self._classes.add(name)
        manifest = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": PROVISIONER,
            "allowVolumeExpansion": expandable,
        }
        if self._client.post(path, json=manifest).status_code == httpx.codes.CONFLICT:
            change = {"allowVolumeExpansion": expandable}
            self._patch(f"{path}/{name}", change)

    def remove_class(self, name: str = "") -> None:
        self._client.delete(f"/apis/storage.k8s.io/v1/storageclasses/{name or self.storage_class}")

    def run(self) -> None:
        while not self.ending.wait(PAUSE_SECONDS):
            for claim in self._list("persistentvolumeclaims"):
                if claim["spec"].get("storageClassName") not in self._classes:
                    continue

                if claim["status"]["phase"] == "Pending" and _needs_volume(claim):
                    source = claim["spec"].get("dataSourceRef") or {}
                    if source.get("kind") == "VolumeSnapshot" and source["name"] not in self.snapshots:
                        self._miss_snapshot(claim, source["name"])
                    else:
                        self._provision(claim)
                elif claim["status"]["phase"] == "Bound":
                    self._expand(claim)

    def _provision(self, claim: Manifest) -> None:
        uid = claim["metadata"]["uid"]
        if uid in self._provisioned:
            return

        self._provisioned.add(uid)
        volume = volume_for(claim, uid, csi={"driver": PROVISIONER, "volumeHandle": uid})
        _check(self._client.post("/api/v1/persistentvolumes", json=volume))

    def _miss_snapshot(self, claim: Manifest, name: str) -> None:
        """Records an Event about the claim, as the provisioner sidecar of CSI does, once for each claim."""
        about = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": self.namespace}
        identity = {key: claim["metadata"][key] for key in ("name", "uid", "resourceVersion")}
        message = (
            f'failed to provision volume with StorageClass "{claim["spec"]["storageClassName"]}": error getting handle '
            f"for DataSource Type VolumeSnapshot by Name {name}: error getting snapshot {name} from api server: "
            f'volumesnapshots.snapshot.storage.k8s.io "{name}" not found'
        )
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{identity['name']}.{identity['uid'][:8]}"},
            "involvedObject": {**about, **identity},
            "type": "Warning",
            "reason": "ProvisioningFailed",
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": PROVISIONER},
        }
        self._client.post(f"/api/v1/namespaces/{self.namespace}/events", json=event)

    def _expand(self, claim: Manifest) -> None:
        name, wanted = claim["metadata"]["name"], claim["spec"]["resources"]["requests"]["storage"]
        if quantity.parse(wanted) <= quantity.parse(claim["status"]["capacity"]["storage"]):
            return

        expansion = self.claim_expansions.get(name, self.expansion)
        since = self._expanding_since.setdefault((name, wanted), monotonic())

        if expansion.most and quantity.parse(wanted) > quantity.parse(expansion.most):
            self._reject(claim, f"no volume has more than {expansion.most}")
        elif monotonic() - since < expansion.seconds:
            self._report(claim, "ControllerResizeInProgress", wanted, _condition("Resizing"))
        elif expansion.offline:
            self._expand_offline(claim, wanted)
        else:
            self._finish(claim, wanted)

    def _reject(self, claim: Manifest, why: str) -> None:
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        self._report(claim, "ControllerResizeInfeasible", wanted, _condition("ControllerResizeError", why))

    def _expand_offline(self, claim: Manifest, wanted: str) -> None:
        """Expands all but the file system, which cannot grow before another pod uses the volume, or none."""
        name, user = claim["metadata"]["name"], self._find_user(claim)
        waiting = self._pods.setdefault(name, user)

        if user not in ("", waiting):
            del self._pods[name]
            self._finish(claim, wanted)
        else:
            self._report(claim, "NodeResizePending", wanted, _condition("FileSystemResizePending"))

    def _find_user(self, claim: Manifest) -> str:
        """Returns the uid of the pod that uses the claim, or an empty text when none does."""
        for pod in self._list("pods"):
            sources = [volume.get("persistentVolumeClaim") or {} for volume in pod["spec"]["volumes"]]
            if any(source.get("claimName") == claim["metadata"]["name"] for source in sources):
                return str(pod["metadata"]["uid"])

        return ""

    def _finish(self, claim: Manifest, wanted: str) -> None:
        size = {"capacity": {"storage": wanted}}
        self._patch(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}", {"spec": size})
        settled = {"conditions": None, "allocatedResources": None, "allocatedResourceStatuses": None}
        self._patch(self._status_path(claim), {"status": {**size, **settled}})

    def _report(self, claim: Manifest, state: str, size: str, condition: Manifest) -> None:
        states, conditions = claim["status"].get("allocatedResourceStatuses"), claim["status"].get("conditions")
        if states == {"storage": state} and claim["status"].get("allocatedResources") == {"storage": size}:
            return

        kept = [entry for entry in conditions or [] if entry["type"] == condition["type"]]
        status = {
            "conditions": kept or [condition],
            "allocatedResources": {"storage": size},
            "allocatedResourceStatuses": {"storage": state},
        }
        self._patch(self._status_path(claim), {"status": status})

    def _list(self, plural: str) -> list[Manifest]:
        answer = self._client.get(f"/api/v1/namespaces/{self.namespace}/{plural}").raise_for_status().json()
        items: list[Manifest] = answer["items"]
        return items

    def _status_path(self, claim: Manifest) -> str:
        return f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims/{claim['metadata']['name']}/status"

    def _patch(self, path: str, change: Manifest) -> None:
        _check(self._client.patch(path, json=change, headers=_MERGE_PATCH))


def _needs_volume(claim: Manifest) -> bool:
    """Tells whether the controller that binds claims has asked for a volume, because no existing one fits."""
    return "volume.kubernetes.io/storage-provisioner" in (claim["metadata"].get("annotations") or {})


def volume_for(claim: Manifest, name: str, **source: Any) -> Manifest:
    """Builds a volume that is as large as the claim asks for and reserved for it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"]["accessModes"],
            "storageClassName": claim["spec"]["storageClassName"],
            "claimRef": {key: claim["metadata"][key] for key in ("namespace", "name", "uid")},
            **source,
        },
    }


def _check(answer: httpx.Response) -> None:
    assert answer.is_success, answer.text


def _condition(kind: str, message: str = "") -> Manifest:
    return {
        "type": kind,
        "status": "True",
        "message": message,
        "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
