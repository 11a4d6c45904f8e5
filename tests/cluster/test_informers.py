"""Informers of a namespace at the real API server: what they keep, and which lookups they answer."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.cluster.client import Cluster
from app.cluster.informers import Informers, is_from_creator, without_managed_fields
from app.cluster.reader import CLAIMS, PODS, SECRETS, SERVICES, STORAGE_CLASSES
from app.cluster.secrets import SecretDigest
from app.storage.facts import NO_NEEDS, Claim, Facts, Needs, StorageClass, StorageClasses, Unknown
from app.storage.objects import jwt_secret
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.proxy import Proxy
from tests.harness.reconciler_namespace import connect, create_server, owner_of, run_informers
from tests.harness.wait import run_beside, until_async

pytestmark = pytest.mark.anyio

MARKER = "hunter2-in-clear"
OWNED: Manifest = {"f:metadata": {"f:ownerReferences": {".": {}}}}
UNASKED = Facts().storage_classes
AT_ONE = {"resourceVersion": "1"}


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    async with connect(control_plane) as cluster:
        yield cluster


def named(name: str, namespace: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "metadata": {"name": name, "namespace": namespace, "labels": labels}}


def pod(namespace: str, *, labels: dict[str, str]) -> dict[str, Any]:
    manifest = named("p", namespace, **labels)
    manifest["metadata"]["annotations"] = {"dittofs.io/config-hash": "digest", "example.com/other": MARKER}
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-p"}},
        {"name": MARKER, "emptyDir": {}},
    ]
    return {**manifest, "kind": "Pod", "spec": {"containers": [{"name": "c", "image": MARKER}], "volumes": volumes}}


def secret(namespace: str, value: str) -> dict[str, Any]:
    data = {"key": base64.b64encode(value.encode()).decode()}
    return {**named("s", namespace, app="any"), "kind": "Secret", "data": data}


def storage_class(name: str, *, default: bool = False) -> Manifest:
    annotations = {"storageclass.kubernetes.io/is-default-class": str(default).lower()}
    return {"metadata": {"name": name, "annotations": annotations, "resourceVersion": "1"}}


def requests() -> float:
    """Returns how many requests this process has sent and got an answer for."""
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name == "rest_client_requests_total")


def unwatched(cluster: Cluster, *classes: Manifest) -> Informers:
    """Returns informers that watch nothing, and take these classes for a complete list."""
    informers = Informers(cluster, ("here",))
    for manifest in classes:
        informers.classes.put(manifest)
    informers._reflectors[STORAGE_CLASSES][0].gap = None
    return informers


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"operation": "Update", "fieldsV1": OWNED}, True),
        ({"operation": "Update", "fieldsV1": OWNED, "subresource": "status"}, False),
        ({"operation": "Apply", "fieldsV1": OWNED}, False),
        ({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {}}}, False),
        ({"manager": "kubectl", "operation": "Update"}, False),
    ],
)
async def test_a_creator_set_the_owner_by_update(entry: Manifest, *, expected: bool) -> None:
    assert is_from_creator(entry) is expected


async def test_only_creators_stay_in_managed_fields() -> None:
    maker = {"manager": "manager", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": OWNED}
    other = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {}}}
    kept = without_managed_fields({"metadata": {"name": "a", "managedFields": [maker, other]}, "data": {"a": "b"}})
    made_by = [{"manager": "manager", "operation": "Update"}]

    assert kept == {"metadata": {"name": "a", "managedFields": made_by}, "data": {"a": "b"}}
    assert without_managed_fields({"metadata": {"name": "a"}})["metadata"]["managedFields"] == []


async def test_secrets_are_watched_without_labels(crd: None, namespace: str, cluster: Cluster) -> None:
    port = {"spec": {"ports": [{"port": 80}]}, "kind": "Service"}
    await cluster.create(SERVICES, {**named("theirs", namespace), **port})
    async with run_informers(cluster, namespace) as informers:
        await cluster.create(SERVICES, {**named("ours", namespace, app="dittofs-server"), **port})
        await cluster.create(SECRETS, secret(namespace, MARKER))
        await until_async(lambda: (namespace, "ours") in informers.services)
        await until_async(lambda: (namespace, "s") in informers.secrets_metadata)

        assert list(informers.services) == [(namespace, "ours")]
        assert MARKER not in repr(informers.secrets_metadata.get((namespace, "s")))
        assert informers.gap(SERVICES) is None


async def test_a_pod_keeps_its_identity_and_claims(
    control_plane: ControlPlane, crd: None, namespace: str, cluster: Cluster
) -> None:
    # A pod needs its account, which a controller makes a moment after the namespace.
    await until_async(lambda: control_plane.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default") is not None)
    async with run_informers(cluster, namespace) as informers:
        created = await cluster.create(PODS, pod(namespace, labels={"app": "dittofs-server"}))
        await until_async(lambda: (namespace, "p") in informers.pods)
        kept = informers.pods.get((namespace, "p"))

        assert kept
        assert kept["metadata"]["uid"] == created["metadata"]["uid"]
        assert kept["metadata"]["creationTimestamp"] == created["metadata"]["creationTimestamp"]
        assert kept["metadata"]["annotations"] == {"dittofs.io/config-hash": "digest"}
        assert kept["spec"] == {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-p"}}]}
        assert MARKER not in repr(kept)


async def test_a_pod_keeps_what_a_diagnosis_needs(cluster: Cluster) -> None:
    spec = {
        "nodeName": "n1",
        "initContainers": [{"name": "proxy", "restartPolicy": "Always", "image": MARKER}],
        "containers": [{"name": "c", "image": MARKER}],
    }
    metadata = named("p", "here")["metadata"] | AT_ONE | {"finalizers": ["example.com/f"], "deletionTimestamp": "t"}
    informers = unwatched(cluster)

    informers.pods.put({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}})

    kept = informers.pods.get(("here", "p"))

    assert kept
    assert kept["metadata"]["finalizers"] == ["example.com/f"]

    sidecar = {"name": "proxy", "restartPolicy": "Always"}

    assert kept["spec"] == {"volumes": [], "nodeName": "n1", "initContainers": [sidecar]}


async def test_a_pod_keeps_what_its_adoption_needs(cluster: Cluster) -> None:
    mounts = [{"name": "metadata", "mountPath": "/data/metadata", "readOnly": False}]
    root = {"readOnlyRootFilesystem": True, "runAsUser": 7}
    ours = {"name": "dittofs", "image": "dittofs:1", "command": [MARKER], "securityContext": root}
    spec = {"containers": [{**ours, "volumeMounts": mounts}, {"name": "theirs", "volumeMounts": mounts}]}
    annotations = {"dittofs.io/restartedAt": "noon", "theirs": MARKER}
    metadata = named("p", "here")["metadata"] | AT_ONE | {"annotations": annotations}
    informers = unwatched(cluster)

    informers.pods.put({"metadata": metadata, "spec": spec})

    kept = informers.pods.get(("here", "p"))

    assert kept
    assert kept["metadata"]["annotations"] == {"dittofs.io/restartedAt": "noon"}
    assert kept["spec"]["containers"] == [
        {
            "name": "dittofs",
            "image": "dittofs:1",
            "securityContext": {"readOnlyRootFilesystem": True},
            "volumeMounts": [{"name": "metadata", "mountPath": "/data/metadata"}],
        }
    ]


async def test_a_claim_keeps_who_set_its_size(crd: None, namespace: str, cluster: Cluster) -> None:
    async with run_informers(cluster, namespace) as informers:
        requests = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
        about = named("cache-files-0", namespace)
        await cluster.create(CLAIMS, {**about, "kind": "PersistentVolumeClaim", "spec": requests})
        await until_async(lambda: (namespace, "cache-files-0") in informers.claims)
        claim = informers.claim((namespace, "cache-files-0"))

        assert claim
        assert (claim.requested, claim.requested_by) == ("1Gi", frozenset({"dittofs-operator"}))


async def test_a_claim_keeps_what_a_spec_may_set(crd: None, namespace: str, cluster: Cluster) -> None:
    requests = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
    mine = {"example.com/backup": "daily", "dittofs.io/claim-metadata": '{"labels":["team"]}'}
    theirs = {"volume.kubernetes.io/selected-node": "one"}
    manifest = {**named("cache-files-0", namespace, team="a"), "kind": "PersistentVolumeClaim", "spec": requests}
    manifest["metadata"]["annotations"] = mine | theirs
    await cluster.create(CLAIMS, manifest)

    async with run_informers(cluster, namespace) as informers:
        claim = informers.claim((namespace, "cache-files-0"))

    assert claim
    assert (claim.labels, claim.annotations) == ({"team": "a"}, mine)


async def test_claims_are_known_by_name_not_label(crd: None, namespace: str, cluster: Cluster) -> None:
    """A claim that was restored from a snapshot, cloned or provisioned by hand lacks our labels."""
    spec = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
    names = ("strangers", "cache-files-0", "cache-files-1", "logs-files-0", "content-a-b-0", "metadata-0")

    for name in names:
        labels = {"app": "dittofs-server"} if name == "strangers" else {}
        await cluster.create(
            CLAIMS, {**named(name, namespace, **labels), "kind": "PersistentVolumeClaim", "spec": spec}
        )

    async with run_informers(cluster, namespace) as informers:
        assert {name for _, name in informers.claims} == {"cache-files-0", "content-a-b-0"}


async def test_all_namespaces_are_watched_by_default(crd: None, namespace: str, cluster: Cluster) -> None:
    port = {"spec": {"ports": [{"port": 80}]}, "kind": "Service"}
    await cluster.create(SERVICES, {**named("ours", namespace, app="dittofs-server"), **port})
    async with run_informers(cluster) as informers:
        assert (namespace, "ours") in informers.services


async def test_a_secret_is_unknown_before_the_sync(crd: None, namespace: str, cluster: Cluster) -> None:
    informers = Informers(cluster, (namespace,))

    assert await informers.secret((namespace, "s")) == Unknown("it has not been read yet")

    created = await cluster.create(SECRETS, secret(namespace, MARKER))
    # One that is known to exist can be read all the same.
    informers.secrets_metadata.put(created)

    assert isinstance(await informers.secret((namespace, "s")), SecretDigest)

    async with run_beside(informers.run(), informers.wait_for_sync(), 60):
        assert await informers.secret((namespace, "never")) is None


async def test_known_secrets_and_claims_are_answered(namespace: str, cluster: Cluster) -> None:
    informers = Informers(cluster, (namespace,))
    informers.secrets.put_written(await cluster.create(SECRETS, secret(namespace, MARKER)))
    name = "cache-files-0"
    informers.claims.put({"metadata": {**named(name, namespace)["metadata"], **AT_ONE}})
    needs = Needs(namespace, secrets=frozenset({"s", "other"}), claims=frozenset({name, "none"}))
    facts, remaining = informers.known_facts(needs)

    assert set(facts.secrets) == {"s"}
    assert facts.claims == {name: Claim(name)}
    assert remaining == Needs(namespace, secrets=frozenset({"other"}), claims=frozenset({"none"}))


async def test_a_dry_run_is_always_asked_for(namespace: str, cluster: Cluster) -> None:
    needs = Needs(namespace, stateful_set={"metadata": {"name": "files", "namespace": namespace}})

    facts, remaining = Informers(cluster, (namespace,)).known_facts(needs)

    assert facts.dry_run is None
    assert remaining == needs
    assert remaining


LEFTOVERS = frozenset({"cache-files-0", "metadata-files-0"})


def synced_claims(cluster: Cluster, namespace: str) -> Informers:
    """Returns informers that watch nothing, and take one claim for a complete list."""
    informers = Informers(cluster, (namespace,))
    informers.claims.put({"metadata": {**named("cache-files-0", namespace)["metadata"], **AT_ONE}})
    informers._reflectors[CLAIMS][0].gap = None
    return informers


async def test_leftovers_need_not_be_asked_for(cluster: Cluster) -> None:
    facts, remaining = synced_claims(cluster, "here").known_facts(Needs("here", leftovers=LEFTOVERS))

    assert facts.claims == {"cache-files-0": Claim("cache-files-0"), "metadata-files-0": None}
    assert not remaining


async def test_lookups_in_memory_are_counted(cluster: Cluster) -> None:
    def lookups(result: str) -> float:
        labels = {"kind": "PersistentVolumeClaim", "result": result}
        return REGISTRY.get_sample_value("dittofs_operator_lookups_total", labels) or 0

    before = [lookups(result) for result in ("found", "absent", "unknown")]
    await synced_claims(cluster, "here").look_up(Needs("here", leftovers=LEFTOVERS))

    after = [lookups(result) for result in ("found", "absent", "unknown")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 0]


async def test_claims_of_a_server_that_exists_are_asked_for(cluster: Cluster) -> None:
    facts, remaining = synced_claims(cluster, "here").known_facts(Needs("here", claims=LEFTOVERS))

    assert facts.claims == {"cache-files-0": Claim("cache-files-0")}
    assert remaining.claims == {"metadata-files-0"}


async def test_leftovers_are_asked_for_before_the_sync(cluster: Cluster) -> None:
    _, remaining = Informers(cluster, ("here",)).known_facts(Needs("here", leftovers=LEFTOVERS))

    assert remaining.leftovers == LEFTOVERS


async def test_leftovers_elsewhere_are_asked_for(cluster: Cluster) -> None:
    """A webhook may be registered for more namespaces than its operator watches."""
    _, remaining = synced_claims(cluster, "here").known_facts(Needs("elsewhere", leftovers=LEFTOVERS))

    assert remaining.leftovers == LEFTOVERS


async def test_the_classes_answer_where_none_is_named(cluster: Cluster) -> None:
    facts, remaining = unwatched(cluster, storage_class("slow")).known_facts(Needs(storage_classes=True))

    assert facts.storage_classes == StorageClasses((StorageClass("slow"),))
    assert not remaining.storage_classes


async def test_a_secret_is_fetched_again_after_a_change(namespace: str, cluster: Cluster) -> None:
    """A replica that does not reconcile fetches Secrets only for reviews."""
    informers = Informers(cluster, (namespace,))
    needs = Needs(namespace, secrets=frozenset({"s"}))
    created = await cluster.create(SECRETS, secret(namespace, MARKER))
    await informers.get(SECRETS, "s", namespace)

    assert informers.known_facts(needs)[1] == needs  # It is not watched: who would say that it has changed?

    informers.secrets_metadata.put(created)
    await informers.get(SECRETS, "s", namespace)

    assert informers.known_facts(needs)[1] == NO_NEEDS

    informers.secrets_metadata.put(await cluster.apply(SECRETS, secret(namespace, "another")))

    assert informers.known_facts(needs)[1] == needs

    await informers.get(SECRETS, "s", namespace)

    assert informers.known_facts(needs)[1] == NO_NEEDS


@pytest.mark.since(32)
async def test_generated_secrets_are_read_at_once(crd: None, namespace: str, cluster: Cluster) -> None:
    owner = owner_of(await create_server(cluster, namespace))
    generated, foreign = jwt_secret(owner, MARKER.encode()), named("foreign", namespace, app="dittofs-server")
    for manifest in (generated, {**foreign, "kind": "Secret"}):
        await cluster.create(SECRETS, manifest)

    async with run_informers(cluster, namespace) as informers:
        before = requests()
        await informers.fetch_generated_secrets()

        digest = informers.secrets.get((namespace, generated["metadata"]["name"]))
        assert digest
        assert digest.digests == {"jwt-secret": hashlib.sha256(MARKER.encode()).hexdigest()}
        # Whoever gives such a label to another Secret does not make the operator look into it.
        assert informers.secrets.get((namespace, "foreign")) is None
        assert requests() == before + 1


async def test_generated_secrets_are_never_read_in_pages(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    """Anybody may give their label to Secrets of a megabyte, of which a page would fill the memory."""
    with Proxy(control_plane, tmp_path) as proxy:
        proxy.fault(lambda request: "sendInitialEvents" in request.query, answer=422)
        async with Cluster.connect(proxy.kubeconfig) as cluster, run_informers(cluster, namespace) as informers:
            await informers.fetch_generated_secrets()

        # The watch of the metadata has no selector.
        listed = {request.path.rpartition("/")[2] for request in proxy.requests if "labelSelector" in request.query}
        assert PODS.plural in listed
        assert SECRETS.plural not in listed


async def test_unreadable_generated_secrets_are_given_up(
    monkeypatch: pytest.MonkeyPatch, namespace: str, cluster: Cluster
) -> None:
    monkeypatch.setattr("app.cluster.informers.GENERATED_SECRETS_SECONDS", 0.01)

    # No namespace can have such a name, so that there is never a list.
    await Informers(cluster, (namespace, "..")).fetch_generated_secrets()


FAST = StorageClass("fast", is_default=True)


async def test_classes_answer_a_name_and_the_default(cluster: Cluster) -> None:
    informers = unwatched(cluster, storage_class("fast", default=True))
    for name in ("fast", None):
        needs = Needs(storage_classes=True, class_names=frozenset({name}))
        facts, remaining = informers.known_facts(needs)
        assert facts.storage_classes == StorageClasses((FAST,))
        assert not remaining.storage_classes


async def test_a_broken_watch_answers_no_review(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    """Its store may be out of date, such as after an etcd restore."""
    needs = Needs(namespace, storage_classes=True, class_names=frozenset({namespace}))
    with Proxy(control_plane, tmp_path) as proxy:
        async with Cluster.connect(proxy.kubeconfig) as cluster, run_informers(cluster, namespace) as informers:
            metadata = {"name": namespace}
            await cluster.create(STORAGE_CLASSES, {"metadata": metadata, "provisioner": "example.com/fast"})
            await until_async(lambda: not informers.known_facts(needs)[1])

            refused = proxy.fault(lambda request: request.watch, cut="before")
            proxy.cut_watches()
            await until_async(lambda: informers.known_facts(needs)[1] == needs)

            refused.remove()
            await until_async(lambda: not informers.known_facts(needs)[1])
    control_plane.delete(f"/apis/storage.k8s.io/v1/storageclasses/{namespace}")


async def test_a_class_that_changes_is_known_as_it_then_is(cluster: Cluster) -> None:
    informers = unwatched(cluster, storage_class("fast", default=True))

    assert informers.storage_classes.default == FAST

    changed = storage_class("fast")
    informers.classes.put({**changed, "metadata": {**changed["metadata"], "resourceVersion": "2"}})

    assert informers.storage_classes == StorageClasses((StorageClass("fast"),))

    informers.classes.remove({**changed, "metadata": {**changed["metadata"], "resourceVersion": "3"}})

    assert informers.storage_classes == StorageClasses()


@pytest.mark.parametrize("name", ["slow", None])
async def test_the_absence_of_a_class_is_not_concluded(cluster: Cluster, name: str | None) -> None:
    informers = unwatched(cluster, storage_class("fast"))
    facts, remaining = informers.known_facts(Needs(storage_classes=True, class_names=frozenset({name})))
    assert facts.storage_classes == UNASKED
    assert remaining.storage_classes


async def test_an_incomplete_list_of_classes_is_no_answer(cluster: Cluster) -> None:
    informers = Informers(cluster, ("here",))
    informers.classes.put(storage_class("fast", default=True))
    facts, remaining = informers.known_facts(Needs(storage_classes=True, class_names=frozenset({"fast"})))

    assert facts.storage_classes == UNASKED
    assert remaining.storage_classes


async def test_classes_are_not_answered_without_need(cluster: Cluster) -> None:
    facts, remaining = unwatched(cluster, storage_class("fast")).known_facts(Needs(class_names=frozenset({"fast"})))
    assert facts.storage_classes == UNASKED
    assert not remaining.storage_classes
