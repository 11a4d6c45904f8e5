"""A volume driver for a control plane that has none: it makes volumes for claims and lets them grow, or refuses to, as
a real provisioner, a real resizer and the kubelet would say so in the claims.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Self

import httpx

from app.storage import quantity
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.background import Background

PROVISIONER = "disks.example.com"
PAUSE_SECONDS = 0.02
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@dataclass(frozen=True)
class Expansion:
    """How volumes grow: after so many seconds, only when no pod uses them, or not beyond `most`."""

    seconds: float = 0.0
    offline: bool = False
    most: str | None = None


ONLINE = Expansion()


class VolumeDriver(Background):
    """At work in one namespace inside a `with`, for its own StorageClass, which has the namespace's name.

    `expansion` can be changed at any time, and `claim_expansions` are those of single
    claims. It never makes a volume smaller.
    """

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        super().__init__()
        self.expansion = ONLINE
        self.claim_expansions: dict[str, Expansion] = {}
        self.namespace = namespace
        self._grown_since: dict[tuple[str, str], float] = {}
        self._pods: dict[str, str] = {}
        self._provided: set[str] = set()
        trust = ssl.create_default_context(cafile=control_plane.ca_file)
        headers = {"Authorization": f"Bearer {control_plane.token}"}
        self._client = httpx.Client(base_url=control_plane.url, headers=headers, verify=trust, trust_env=False)

    def __enter__(self) -> Self:
        self.put_class(expandable=True)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.remove_class()
        for uid in self._provided:
            self._client.delete(f"/api/v1/persistentvolumes/{uid}")
        self._client.close()

    @property
    def storage_class(self) -> str:
        return self.namespace

    def bind(self, claim: Manifest) -> None:
        """A claim of another class, which it would pass over."""
        self._provide(claim)

    def put_class(self, *, expandable: bool) -> None:
        path = "/apis/storage.k8s.io/v1/storageclasses"
        made = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": self.storage_class},
            "provisioner": PROVISIONER,
            "allowVolumeExpansion": expandable,
        }
        if self._client.post(path, json=made).status_code == httpx.codes.CONFLICT:
            change = {"allowVolumeExpansion": expandable}
            self._patch(f"{path}/{self.storage_class}", change)

    def remove_class(self) -> None:
        self._client.delete(f"/apis/storage.k8s.io/v1/storageclasses/{self.storage_class}")

    def run(self) -> None:
        while not self.ending.wait(PAUSE_SECONDS):
            for claim in self._listed("persistentvolumeclaims"):
                if claim["spec"].get("storageClassName") != self.storage_class:
                    continue
                if claim["status"]["phase"] == "Pending" and _is_to_be_provided(claim):
                    self._provide(claim)
                elif claim["status"]["phase"] == "Bound":
                    self._attend_to(claim)

    def _provide(self, claim: Manifest) -> None:
        uid = claim["metadata"]["uid"]
        if uid in self._provided:
            return
        self._provided.add(uid)
        volume = volume_for(claim, uid, csi={"driver": PROVISIONER, "volumeHandle": uid})
        _done(self._client.post("/api/v1/persistentvolumes", json=volume))

    def _attend_to(self, claim: Manifest) -> None:
        name, wanted = claim["metadata"]["name"], claim["spec"]["resources"]["requests"]["storage"]
        if quantity.parse(wanted) <= quantity.parse(claim["status"]["capacity"]["storage"]):
            return
        expansion = self.claim_expansions.get(name, self.expansion)
        since = self._grown_since.setdefault((name, wanted), monotonic())
        if expansion.most and quantity.parse(wanted) > quantity.parse(expansion.most):
            self._refuse(claim, f"no volume has more than {expansion.most}")
        elif monotonic() - since < expansion.seconds:
            self._say(claim, "ControllerResizeInProgress", wanted, _condition("Resizing"))
        elif expansion.offline:
            self._grow_offline(claim, wanted)
        else:
            self._grow(claim, wanted)

    def _refuse(self, claim: Manifest, why: str) -> None:
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        self._say(claim, "ControllerResizeInfeasible", wanted, _condition("ControllerResizeError", why))

    def _grow_offline(self, claim: Manifest, wanted: str) -> None:
        """All but the file system, which a pod that uses the volume keeps from growing: it takes another pod."""
        name, user = claim["metadata"]["name"], self._user(claim)
        waiting = self._pods.setdefault(name, user)
        if user not in ("", waiting):
            del self._pods[name]
            self._grow(claim, wanted)
        else:
            self._say(claim, "NodeResizePending", wanted, _condition("FileSystemResizePending"))

    def _user(self, claim: Manifest) -> str:
        """The uid of the pod that uses the claim, empty when none does."""
        for pod in self._listed("pods"):
            claims = [volume.get("persistentVolumeClaim") or {} for volume in pod["spec"]["volumes"]]
            if any(each.get("claimName") == claim["metadata"]["name"] for each in claims):
                return str(pod["metadata"]["uid"])
        return ""

    def _grow(self, claim: Manifest, wanted: str) -> None:
        size = {"capacity": {"storage": wanted}}
        self._patch(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}", {"spec": size})
        settled = {"conditions": None, "allocatedResources": None, "allocatedResourceStatuses": None}
        self._patch(self._status_of(claim), {"status": {**size, **settled}})

    def _say(self, claim: Manifest, state: str, size: str, condition: Manifest) -> None:
        states, conditions = claim["status"].get("allocatedResourceStatuses"), claim["status"].get("conditions")
        if states == {"storage": state} and claim["status"].get("allocatedResources") == {"storage": size}:
            return
        kept = [each for each in conditions or [] if each["type"] == condition["type"]]
        status = {
            "conditions": kept or [condition],
            "allocatedResources": {"storage": size},
            "allocatedResourceStatuses": {"storage": state},
        }
        self._patch(self._status_of(claim), {"status": status})

    def _listed(self, plural: str) -> list[Manifest]:
        answer = self._client.get(f"/api/v1/namespaces/{self.namespace}/{plural}").raise_for_status().json()
        items: list[Manifest] = answer["items"]
        return items

    def _status_of(self, claim: Manifest) -> str:
        return f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims/{claim['metadata']['name']}/status"

    def _patch(self, path: str, change: Manifest) -> None:
        _done(self._client.patch(path, json=change, headers=_MERGE_PATCH))


def _is_to_be_provided(claim: Manifest) -> bool:
    """The controller that binds claims says so, when no volume that is there will do."""
    return "volume.kubernetes.io/storage-provisioner" in (claim["metadata"].get("annotations") or {})


def volume_for(claim: Manifest, name: str, **source: Any) -> Manifest:
    """As large as the claim asks for, and nobody else's."""
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


def _done(answer: httpx.Response) -> None:
    assert answer.is_success, answer.text


def _condition(kind: str, message: str = "") -> Manifest:
    return {
        "type": kind,
        "status": "True",
        "message": message,
        "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
