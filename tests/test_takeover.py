"""Servers that the Go operator created, with and without their StatefulSet, taken over at the real API server."""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from app.cluster.client import Cluster, Request
from app.cluster.informers import Informers
from app.cluster.reader import CLAIMS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS
from app.reconcile.reconciler import Reconciler
from app.reconcile.writer import Writer
from app.storage.crd import custom_resource_definition
from app.storage.spec import API_VERSION, KIND
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness import go_operator
from tests.harness.editing import edit
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.volume_driver import VolumeDriver
from tests.harness.volume_expansion import NOON, SECONDS, ExpansionNamespace, identity
from tests.harness.wait import until, until_async

pytestmark = pytest.mark.anyio

CLAIM_NAMES = tuple(f"{volume}-files-0" for volume in go_operator.SIZES)


class Takeover(ExpansionNamespace):
    """A namespace in which the Go operator has created a server named files."""

    def __init__(self, control_plane: ControlPlane, cluster: Cluster, informers: Informers, namespace: str) -> None:
        super().__init__(cluster, informers, namespace)
        self.control_plane = control_plane
        self.password = secrets.token_urlsafe(18)
        self.original_pod = ""
        self.pods: list[str] = []

    def create(self, *manifests: Manifest) -> None:
        """Creates objects as the Go operator does."""
        options = ("--namespace", self.namespace, f"--field-manager={go_operator.FIELD_MANAGER}", "--validate=false")
        items = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.control_plane.kubectl("create", *options, "-f", "-", input=json.dumps(items))

    async def create_go_server(self, **fields: Any) -> str:
        """Creates the DittoServer, and returns its uid."""
        metadata: Manifest = {"name": "files", "namespace": self.namespace, "finalizers": [go_operator.FINALIZER]}
        spec = go_operator.spec(self.storage_class, **fields)
        self.create({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})
        await until_async(lambda: self.key in self.informers.servers)
        return str((await self.live(DITTO_SERVERS))["metadata"]["uid"])

    async def run_go_server(self, *, legacy: bool = False) -> None:
        """Lets the Go operator's server run; its pod is ready, and its claims are bound."""
        uid = await self.create_go_server()
        self.create(*go_operator.left_behind("files", uid, self.storage_class, self.password, legacy=legacy))
        await self.wait_for_claims()
        await until_async(lambda: self.pod is not None, SECONDS)
        self.original_pod = (await self.report_ready())["metadata"]["uid"]

    async def keep_claims(self) -> None:
        """Leaves only the claims of a server."""
        self.create(*go_operator.claims("files", self.storage_class))
        await self.wait_for_claims()

    async def wait_for_claims(self) -> None:
        def is_bound(claim: str) -> bool:
            live = self.informers.claim((self.namespace, claim))
            return live is not None and live.phase == "Bound"

        await until_async(lambda: all(map(is_bound, CLAIM_NAMES)), SECONDS)

    async def report_ready(self) -> Manifest:
        """Reports the current pod ready, as its kubelet does, and returns it."""
        pod = await self.live(PODS, "files-0")
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": NOON}]}
        await self.cluster.patch_status(PODS, {"metadata": identity(pod), "status": status})
        return pod

    async def take_over(self) -> None:
        """Reconciles until nothing is left to do, and notes every pod other than that of the Go operator."""
        async with asyncio.timeout(SECONDS):
            while True:
                if await self.has_noted_pod() and await self.is_settled():
                    return
                await asyncio.sleep(0.02)

    async def has_noted_pod(self) -> bool:
        """Returns whether the pod was noted before; otherwise reconciles, notes it and reports it ready."""
        pods = (await self.cluster.list(PODS, self.namespace)).items
        if not pods:
            await self.reconciler.reconcile(self.key)
            return False
        if pods[0]["metadata"]["uid"] in (self.original_pod, *self.pods):
            return True

        self.pods.append(pods[0]["metadata"]["uid"])
        await self.report_ready()
        return False

    async def is_settled(self) -> bool:
        """Reconciles, and returns whether there was nothing to do, and nothing is left for others to do."""
        result = await self.reconciler.reconcile(self.key)
        status = conditions(await self.live(DITTO_SERVERS))
        reasons = {kind: status[kind]["reason"] for kind in ("Ready", "Reconciling", "StorageReady")}
        expected = {"Ready": "Available", "Reconciling": "Reconciled", "StorageReady": "Bound"}
        return not result.retry and result.requeue_after != 0 and reasons == expected


@pytest.fixture
async def site(control_plane: ControlPlane, crd: None, namespace: str, driver: VolumeDriver) -> AsyncIterator[Takeover]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        yield Takeover(control_plane, cluster, informers, namespace)


def mounts(pod: Manifest) -> dict[str, tuple[str, str]]:
    """Returns claim and folder by the path at which the server finds them."""
    volumes = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    [container] = pod["spec"]["containers"]
    return {
        mount["mountPath"]: (volumes[mount["name"]], mount.get("subPath", ""))
        for mount in container["volumeMounts"]
        if mount["name"] in volumes
    }


def check_mounts(pod: Manifest) -> None:
    """Asserts that the server finds everything where the Go operator has put it."""
    mounted = mounts(pod)
    for volume, path in go_operator.MOUNT_PATHS.items():
        assert mounted[path] == (f"{volume}-files-0", "")


async def claim_uids(site: Takeover) -> dict[str, str]:
    claims = (await site.cluster.list(CLAIMS, site.namespace)).items
    return {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in claims}


async def check_nothing_is_written(site: Takeover) -> None:
    """Asserts that there is nothing left to do, also for an operator that has just started."""
    resources = (CLAIMS, PODS, SECRETS, STATEFUL_SETS, DITTO_SERVERS)

    async def versions() -> dict[str, str]:
        items = [item for resource in resources for item in (await site.cluster.list(resource, site.namespace)).items]
        return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in items}

    before = await versions()
    async with run_informers(site.cluster, site.namespace) as informers:
        await ExpansionNamespace(site.cluster, informers, site.namespace).reconcile()

    assert await versions() == before


async def test_a_server_that_runs_restarts_once(site: Takeover) -> None:
    await site.run_go_server()
    claims = await claim_uids(site)

    await site.take_over()

    assert len(site.pods) == 1
    check_mounts(await site.live(PODS, "files-0"))
    assert claims.items() <= (await claim_uids(site)).items()
    reasons = [event.reason for event in site.events]
    assert "Adopted" in reasons
    assert reasons.count("Restarting") == 1
    await check_nothing_is_written(site)


async def test_a_server_without_its_statefulset_finds_its_data(site: Takeover) -> None:
    await site.keep_claims()
    claims = await claim_uids(site)
    await site.create_go_server()

    await site.take_over()

    assert len(site.pods) == 1
    check_mounts(await site.live(PODS, "files-0"))
    assert claims.items() <= (await claim_uids(site)).items()
    retention = (await site.live(STATEFUL_SETS))["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert retention == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    await check_nothing_is_written(site)


async def test_a_pod_without_its_statefulset_restarts_once(site: Takeover) -> None:
    await site.run_go_server()
    options = ("--cascade=orphan", "--namespace", site.namespace)
    site.control_plane.kubectl("delete", "statefulset", "files", *options)

    await site.take_over()

    assert len(site.pods) == 1
    check_mounts(await site.live(PODS, "files-0"))
    await check_nothing_is_written(site)


async def test_a_database_that_was_hidden_is_reported(site: Takeover) -> None:
    """Which versions did that did not know the claim: their StatefulSet mounts a folder of the metadata volume."""
    await site.keep_claims()
    await site.create_go_server()
    await site.take_over()

    def hide(stateful_set: Manifest) -> Manifest:
        for mount in stateful_set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]:
            if mount["mountPath"] == go_operator.MOUNT_PATHS["controlplane"]:
                mount |= {"name": "metadata", "subPath": "controlplane"}
        return stateful_set

    changed = await edit(site.cluster, STATEFUL_SETS, site.key, hide)
    version = int(changed["metadata"]["resourceVersion"])
    await until_async(lambda: site.informers.stateful_sets.version(site.key) >= version)

    message = await site.reconcile_until("DatabaseClaimNotMounted")

    assert "volume claim controlplane-files-0 has a database that the server does not use" in message
    assert "DatabaseClaimNotMounted" in [event.reason for event in site.events]
    template = (await site.live(STATEFUL_SETS))["spec"]["template"]
    assert template["spec"] == changed["spec"]["template"]["spec"]


async def test_kept_secrets_outlive_the_server(site: Takeover) -> None:
    await site.run_go_server()
    await site.take_over()

    await site.delete(DITTO_SERVERS)
    # Nothing holds the server, and the garbage collector takes what belongs to it.
    await until_async(lambda: site.stateful_set is None, SECONDS)
    await until_gone(site, "files-operator-credentials")

    assert await password_of(site) == site.password
    await site.live(SECRETS, "files-jwt-secret")


async def test_a_server_that_is_deleted_before_is_let_go(site: Takeover) -> None:
    await site.run_go_server()
    await site.delete(DITTO_SERVERS)
    await until_async(lambda: "deletionTimestamp" in (site.informers.servers.get(site.key) or {})["metadata"])

    await site.reconciler.reconcile(site.key)
    await until_async(lambda: site.key not in site.informers.servers)
    await until_gone(site, "files-operator-credentials")

    assert await password_of(site) == site.password


async def test_a_former_password_is_kept(site: Takeover) -> None:
    await site.run_go_server(legacy=True)
    await site.take_over()

    assert await password_of(site) == site.password
    assert len(site.pods) == 1


async def test_clients_reach_the_server_at_its_former_services(site: Takeover) -> None:
    await site.run_go_server()
    before = await site.live(SERVICES, "files-adapter-nfs")
    await site.take_over()

    after, pod = await site.live(SERVICES, "files-adapter-nfs"), await site.live(PODS, "files-0")

    assert after["spec"] == before["spec"]
    assert after["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert after["spec"]["ports"][0]["targetPort"] in ports
    assert after["metadata"]["ownerReferences"][0]["kind"] == KIND


async def test_fields_that_are_ignored_are_reported_once(site: Takeover) -> None:
    await site.keep_claims()
    with its_definition(site.control_plane):
        await site.create_go_server(percona={"enabled": True}, terminationGracePeriodSeconds=60)
    assert "percona" not in (await site.live(DITTO_SERVERS))["spec"]

    # Only what the object says of its fields' managers still names them.
    async with starting(site) as operator:
        await operator.take_over()
    async with starting(site) as later_operator:
        await later_operator.take_over()

    [event] = [event for event in operator.events if event.reason == "FieldsIgnored"]
    assert event.message.endswith(": spec.percona, spec.storage.controlPlaneSize, spec.terminationGracePeriodSeconds")
    assert (await site.live(DITTO_SERVERS))["status"]["ignoredFields"] == event.message.rpartition(": ")[2].split(", ")
    assert "FieldsIgnored" not in [event.reason for event in later_operator.events]


@asynccontextmanager
async def starting(site: Takeover) -> AsyncIterator[Takeover]:
    """Yields the namespace as an operator that starts now sees it."""
    async with run_informers(site.cluster, site.namespace) as informers:
        operator = Takeover(site.control_plane, site.cluster, informers, site.namespace)
        operator.original_pod, operator.pods = site.original_pod, site.pods
        yield operator


@contextmanager
def its_definition(control_plane: ControlPlane) -> Iterator[None]:
    """Serves fields of the Go operator while the `with` lasts."""

    def apply(definition: Manifest) -> None:
        control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(definition))

    apply(go_operator.custom_resource_definition_with_its_fields())
    until(lambda: "percona" in served_fields(control_plane))
    try:
        yield
    finally:
        apply(custom_resource_definition())
        until(lambda: "percona" not in served_fields(control_plane))


def served_fields(control_plane: ControlPlane) -> str:
    return control_plane.kubectl("get", "--raw", "/openapi/v3/apis/dittofs.dittofs.com/v1alpha1").stdout


async def password_of(site: Takeover) -> str:
    data = (await site.live(SECRETS, "files-admin-bootstrap-credentials"))["data"]
    return base64.b64decode(data["password"]).decode()


async def until_gone(site: Takeover, secret: str) -> None:
    """Waits until the garbage collector has deleted a Secret that nobody took from the server."""
    key = (site.namespace, secret)
    await until_async(lambda: key not in site.informers.secrets_metadata, SECONDS)


class Killed(BaseException):
    """The operator is dead: nothing in it can handle this."""


class KilledAfterWrite(Cluster):
    """The cluster as an operator reaches it that dies right after one of its writes, counted from 1."""

    def __init__(self, cluster: Cluster, at: int = 0) -> None:
        super().__init__(cluster.connection)
        self.writes: list[str] = []
        self._at = at

    async def _request(self, request: Request, *kinds: str) -> dict[str, Any]:
        answer = await super()._request(request, *kinds)
        if request.method != "GET":
            self.writes.append(f"{request.method} {request.path.partition('/namespaces/')[2]}")
            if len(self.writes) == self._at:
                raise Killed
        return answer


async def test_a_takeover_that_is_interrupted_is_completed(site: Takeover) -> None:
    """Lets the operator die after each of its writes but those to the status, on which nothing depends.

    `pytest -s` shows the figures.
    """
    undisturbed = await take_over_interrupted(site, 0)
    print(*undisturbed, sep="\n")

    writes = [at for at, write in enumerate(undisturbed, start=1) if not write.endswith("/status")]
    for at in writes:
        await take_over_interrupted(site, at)
    print(f"{len(undisturbed)} writes, interrupted after {len(writes)} of them, and 1 restart each time")


async def take_over_interrupted(site: Takeover, at: int) -> list[str]:
    """Takes a server over, which another operator completes after the write of that number; returns the writes."""
    site.pods, site.password = [], secrets.token_urlsafe(18)
    await site.run_go_server()
    claims = await claim_uids(site)

    cluster = KilledAfterWrite(site.cluster, at)
    async with starting(site) as mortal:
        mortal.writer = Writer(cluster, mortal.informers, mortal.may_write)
        mortal.reconciler = Reconciler(cluster, mortal.informers, mortal.writer, mortal.record_event, mortal.now)
        with suppress(Killed):
            await mortal.take_over()
    async with starting(site) as successor:
        await successor.take_over()

    after = await site.live(PODS, "files-0")
    assert site.pods == [after["metadata"]["uid"]], cluster.writes
    check_mounts(after)
    assert claims.items() <= (await claim_uids(site)).items()
    assert await password_of(site) == site.password
    assert not (await site.live(DITTO_SERVERS))["metadata"].get("finalizers")

    await remove_everything(site)
    return cluster.writes


async def remove_everything(site: Takeover) -> None:
    """Deletes the server with its data and its Secrets."""
    site.control_plane.kubectl("delete", "dittoserver", "files", "--namespace", site.namespace)
    await until_async(lambda: site.stateful_set is None and site.pod is None, SECONDS)
    await until_gone(site, "files-operator-credentials")
    for kinds in ("persistentvolumeclaims", "secrets,configmaps,services,networkpolicies"):
        options = ("--all", "--namespace", site.namespace, "--wait=true")
        site.control_plane.kubectl("delete", kinds, *options)
