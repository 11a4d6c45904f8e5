import asyncio
import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.cluster.client import Cluster
from app.cluster.errors import Forbidden, NotFound
from app.cluster.lookup import NO_SNAPSHOTS, gather
from app.cluster.reader import Listing, Reader, Resource
from app.cluster.snapshot import Snapshot
from app.storage.facts import (
    PRIORITY_CLASS,
    SERVICE_ACCOUNT,
    VOLUME_SNAPSHOT,
    Claim,
    DryRun,
    ExistingObject,
    Facts,
    Needs,
    ObjectReference,
    Secret,
    StorageClass,
    StorageClasses,
    Trait,
    Unknown,
)
from app.storage.unusable_input import UnusableInput
from tests.controlplane.cluster import ControlPlane

FAST = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\nstringData: {key: hunter2}\n"
PRIORITY = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: a}\nvalue: 5\n"
ACCOUNT = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: files}\n"
SNAPSHOT = (
    "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshot\nmetadata: {name: a, namespace: files}\n"
    "status: {readyToUse: true, restoreSize: 5Gi}\n"
)
CLAIM = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: cache-a-0}\nspec: {storageClassName: fast}\n"
SECRETS = frozenset({"s3", "s4", "gone"})
DURATION = "dittofs_operator_lookup_duration_seconds"
EVERYTHING = Needs(storage_classes=True, secrets=frozenset({"s3", "gone"}), claims=frozenset({"cache-a-0"}))


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    (tmp_path / "a.yaml").write_text("---\n".join((FAST, SECRET, CLAIM)))
    return Snapshot(tmp_path)


@dataclass
class Faulty:
    """Answers like the fallback, except for what hangs or fails: objects by name, and the list as `classes`."""

    fallback: Reader
    hangs: frozenset[str] = frozenset()
    fails: frozenset[str] = frozenset()
    cancelled: list[str] = field(default_factory=list)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        await self._fault(name)
        return await self.fallback.get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, labels: str = "") -> Listing:
        await self._fault("classes")
        return await self.fallback.list(resource, namespace, labels)

    async def dry_run(self, resource: Resource, manifest: Mapping[str, Any]) -> DryRun | None:
        await self._fault("dry run")
        return DryRun()

    async def _fault(self, name: str) -> None:
        if name in self.fails:
            raise Forbidden("forbidden: you may not")
        if name in self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(name)


@pytest.mark.anyio
async def test_everything_needed_is_looked_up(snapshot: Snapshot) -> None:
    assert await gather(snapshot, EVERYTHING) == Facts(
        storage_classes=StorageClasses((StorageClass("fast"),)),
        secrets={"s3": Secret.read({"stringData": {"key": "hunter2"}}), "gone": None},
        claims={"cache-a-0": Claim("cache-a-0", "fast")},
    )


@pytest.mark.anyio
async def test_what_is_not_needed_is_not_looked_up(snapshot: Snapshot) -> None:
    assert await gather(snapshot, Needs()) == Facts()


@pytest.mark.anyio
async def test_lookups_use_the_namespace_of_the_server(snapshot: Snapshot) -> None:
    assert (await gather(snapshot, Needs("elsewhere", secrets=frozenset({"s3"})))).secrets == {"s3": None}


@pytest.mark.anyio
async def test_a_failed_lookup_spoils_no_other(snapshot: Snapshot) -> None:
    facts = await gather(Faulty(snapshot, fails=frozenset({"gone", "classes"})), EVERYTHING)
    assert facts.secrets["gone"] == Unknown("forbidden: you may not")
    assert facts.storage_classes == StorageClasses((), gap="forbidden: you may not")
    assert isinstance(facts.secrets["s3"], Secret)


@pytest.mark.anyio
async def test_lookups_are_counted_and_measured(snapshot: Snapshot) -> None:
    def counts() -> dict[str, float]:
        kinds = ("StorageClass", "Secret", "PersistentVolumeClaim", "StatefulSet")
        return {
            f"{kind} {result}": REGISTRY.get_sample_value(
                "dittofs_operator_lookups_total", {"kind": kind, "result": result}
            )
            or 0
            for kind in kinds
            for result in ("found", "absent", "unknown")
        } | {kind: REGISTRY.get_sample_value(f"{DURATION}_count", {"kind": kind}) or 0 for kind in kinds}

    before = counts()
    await gather(Faulty(snapshot, fails=frozenset({"classes", "s4"})), EVERYTHING._replace(secrets=SECRETS))
    await gather(Faulty(snapshot, hangs=frozenset({"dry run"})), Needs(stateful_set={"metadata": {}}), 0.05)

    assert {name: value - before[name] for name, value in counts().items() if value > before[name]} == {
        "StorageClass unknown": 1,
        "Secret found": 1,
        "Secret absent": 1,
        "Secret unknown": 1,
        "PersistentVolumeClaim found": 1,
        "StatefulSet unknown": 1,
        "StorageClass": 1,
        "Secret": 3,
        "PersistentVolumeClaim": 1,
        "StatefulSet": 1,
    }


@pytest.mark.anyio
async def test_files_cannot_try_anything(snapshot: Snapshot) -> None:
    needs = Needs(stateful_set={"metadata": {"name": "a"}})

    assert (await gather(snapshot, needs)).dry_run is None


@pytest.mark.anyio
async def test_a_dry_run_is_made_where_one_can_be(snapshot: Snapshot) -> None:
    needs = Needs(stateful_set={"metadata": {"name": "a"}})

    assert (await gather(Faulty(snapshot), needs)).dry_run == DryRun()


@pytest.mark.anyio
async def test_a_dry_run_that_fails_is_unknown(snapshot: Snapshot) -> None:
    needs = Needs(stateful_set={"metadata": {"name": "a"}})
    fails, hangs = Faulty(snapshot, fails=frozenset({"dry run"})), Faulty(snapshot, hangs=frozenset({"dry run"}))

    assert (await gather(fails, needs)).dry_run == Unknown("forbidden: you may not")
    assert (await gather(hangs, needs, deadline_seconds=0.2)).dry_run == Unknown("no answer within 0.2 s")
    assert hangs.cancelled == ["dry run"]


@pytest.mark.anyio
async def test_a_hanging_lookup_ends_at_the_deadline(snapshot: Snapshot) -> None:
    faulty = Faulty(snapshot, hangs=frozenset({"gone", "classes", "cache-a-0"}))
    began = time.monotonic()
    async with asyncio.timeout(10):
        facts = await gather(faulty, EVERYTHING, deadline_seconds=0.2)

    assert time.monotonic() - began < 2

    why = "no answer within 0.2 s"

    assert facts.secrets == {"gone": Unknown(why), "s3": Secret.read({"stringData": {"key": "hunter2"}})}
    assert facts.claims == {"cache-a-0": Unknown(why)}
    assert facts.storage_classes == StorageClasses((), gap=why)
    assert sorted(faulty.cancelled) == ["cache-a-0", "classes", "gone"]


@pytest.mark.anyio
async def test_cancelling_cancels_the_lookups(snapshot: Snapshot) -> None:
    faulty = Faulty(snapshot, hangs=frozenset({"gone", "s3"}))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await gather(faulty, EVERYTHING, deadline_seconds=60)
    assert sorted(faulty.cancelled) == ["gone", "s3"]


@pytest.mark.anyio
async def test_objects_are_looked_up_by_kind(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{PRIORITY}---\n{ACCOUNT}---\n{SNAPSHOT}")
    present = [ObjectReference(kind, "a") for kind in (PRIORITY_CLASS, SERVICE_ACCOUNT, VOLUME_SNAPSHOT)]
    absent = [ObjectReference(reference.kind, "b") for reference in present]

    facts = await gather(Snapshot(tmp_path), Needs("files", objects=frozenset({*present, *absent})))

    assert facts.objects == {
        **dict.fromkeys(present, ExistingObject()),
        present[2]: ExistingObject(restore_size="5Gi"),
        **dict.fromkeys(absent),
    }


@pytest.mark.anyio
async def test_leftovers_are_looked_up_as_claims_are(snapshot: Snapshot) -> None:
    needs = Needs(leftovers=frozenset({"cache-a-0", "cache-b-0"}))

    facts = await gather(Faulty(snapshot, fails=frozenset({"cache-b-0"})), needs)

    assert facts.claims == {"cache-a-0": Claim("cache-a-0", "fast"), "cache-b-0": Unknown("forbidden: you may not")}


@pytest.mark.anyio
async def test_no_secret_value_is_in_facts_or_logs(
    tmp_path: Path, snapshot: Snapshot, log_lines: list[dict[str, Any]]
) -> None:

    assert "hunter2" not in repr(await gather(snapshot, EVERYTHING))

    (tmp_path / "a.yaml").write_text(SECRET.replace("{key: hunter2}", "[hunter2]"))

    with pytest.raises(UnusableInput) as caught:
        Snapshot(tmp_path)
    with pytest.raises(NotFound) as missing:
        await snapshot.get(Resource("v1", "secrets", "Secret"), "gone")
    assert "hunter2" not in f"{caught.value} {missing.value} {log_lines}"


# Names of cluster-wide objects have the namespace in them: the control plane is shared.
LIVE = """
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast-NAMESPACE}
provisioner: example.com/disk
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume-NAMESPACE}
spec:
  capacity: {storage: 6Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: fast-NAMESPACE
  claimRef: {namespace: NAMESPACE, name: cache-a-0}
  nfs: {server: 192.0.2.1, path: /}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: cache-a-0, namespace: NAMESPACE}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: fast-NAMESPACE
  volumeName: volume-NAMESPACE
  resources: {requests: {storage: 5Gi}}
---
apiVersion: v1
kind: Secret
metadata: {name: s3, namespace: NAMESPACE}
stringData: {endpoint: "http://s3 ", empty: "", key: hunter2}
"""


@pytest.fixture
def live(control_plane: ControlPlane, namespace: str) -> Iterator[ControlPlane]:
    """Creates the objects and waits until the claim is bound, by the controller manager or by hand."""
    manifests = LIVE.replace("NAMESPACE", namespace)
    control_plane.kubectl("apply", "-f", "-", input=manifests)
    claim = ("pvc", "cache-a-0", "-n", namespace)
    bound = '{"status": {"phase": "Bound", "capacity": {"storage": "6Gi"}}}'
    control_plane.kubectl("patch", *claim, "--subresource=status", "--type=merge", f"--patch={bound}")
    control_plane.kubectl("wait", *claim, "--for=jsonpath={.status.capacity.storage}=6Gi", "--timeout=60s")
    yield control_plane
    control_plane.kubectl("delete", "--wait=false", "-f", "-", input=manifests)


@pytest.mark.anyio
async def test_a_cluster_and_its_snapshot_agree(live: ControlPlane, namespace: str, tmp_path: Path) -> None:
    saved = live.kubectl("get", "sc,secrets,pvc", "-A", "-o", "yaml", "--show-managed-fields").stdout
    (tmp_path / "saved.yaml").write_text(saved)
    needs = Needs(namespace, storage_classes=True, secrets=frozenset({"s3", "gone"}), claims=frozenset({"cache-a-0"}))
    async with Cluster.connect(live.kubeconfig) as cluster:
        facts = await gather(cluster, needs)

    assert facts == await gather(Snapshot(tmp_path), needs)
    assert facts.storage_classes.named(f"fast-{namespace}")

    by, claim = frozenset({"kubectl-client-side-apply"}), facts.claims["cache-a-0"]

    assert isinstance(claim, Claim)

    bound = Claim("cache-a-0", f"fast-{namespace}", "6Gi", "Bound", "5Gi", by, created=claim.created)

    assert claim == replace(bound, volume=f"volume-{namespace}", annotations=claim.annotations)
    assert claim.annotations["pv.kubernetes.io/bind-completed"] == "yes"

    secret = facts.secrets["s3"]

    assert isinstance(secret, Secret)
    assert secret.keys["endpoint"] >= {Trait.PADDED, Trait.PLAIN_HTTP}
    assert facts.secrets["gone"] is None


@pytest.mark.anyio
async def test_no_live_secret_value_is_in_facts_or_logs(
    live: ControlPlane, namespace: str, log_lines: list[dict[str, Any]]
) -> None:
    async with Cluster.connect(live.kubeconfig) as cluster:
        facts = await gather(cluster, Needs(namespace, secrets=frozenset({"s3"})))
    encoded = base64.b64encode(b"hunter2").decode()
    shown = f"{facts} {log_lines}"

    assert "hunter2" not in shown
    assert encoded not in shown


@pytest.mark.anyio
async def test_objects_of_a_real_cluster_are_looked_up(control_plane: ControlPlane, namespace: str) -> None:
    """The namespace has its default account; the cluster has built-in classes, and serves no snapshots."""
    account, other = ObjectReference(SERVICE_ACCOUNT, "default"), ObjectReference(SERVICE_ACCOUNT, "other")
    priority, unknown = ObjectReference(PRIORITY_CLASS, "system-node-critical"), ObjectReference(PRIORITY_CLASS, "none")
    snapshot = ObjectReference(VOLUME_SNAPSHOT, "before-the-upgrade")
    control_plane.kubectl("create", "serviceaccount", "default", "--namespace", namespace, check=False)
    needs = Needs(namespace, objects=frozenset({account, other, priority, unknown, snapshot}))

    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        facts = await gather(cluster, needs)

    assert facts.objects == {
        account: ExistingObject(),
        other: None,
        priority: ExistingObject(),
        unknown: None,
        snapshot: Unknown(NO_SNAPSHOTS),
    }
