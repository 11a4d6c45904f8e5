"""One DittoServer at the real API server, reconciled by hand as often as a test says. The caches run."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from app.cluster.informers import Informers
from app.cluster.reader import CLAIMS, CONFIG_MAPS, DITTO_SERVERS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Resource
from app.reconcile.reconciler import TAKEN_RECHECK_SECONDS, Reconciler, Result
from app.storage.claims import CLAIM_PATIENCE_SECONDS
from app.storage.pause import PAUSED, PAUSED_ANNOTATION, is_paused
from app.storage.restart_cause import RestartCause
from app.storage.rollout import blocks
from app.storage.status import conditions
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.log_lines import record_lines
from tests.harness.reconciler_namespace import (
    ReconcilerNamespace,
    Retry,
    open_reconciler_namespace,
    resource_version,
)
from tests.harness.server_table import IMAGE, jwt, s3
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

DSN = "postgres://ditto:hunter2@db.example.com/files"
POSTGRES = {"database": {"type": "postgres", "postgresSecretRef": {"name": "dsn", "key": "url"}}}
QUOTAS = Resource("v1", "resourcequotas", "ResourceQuota")
KEYS = {"accessKeyId": "AKIA", "secretAccessKey": "one"}


site = pytest.fixture(open_reconciler_namespace)


def unwatched(site: ReconcilerNamespace, *known: Manifest) -> ReconcilerNamespace:
    """Its caches do not run: it knows what it is given and nothing else, and of claims that this is all."""
    informers = Informers(site.cluster, (site.namespace,))
    for cache in informers._reflectors[CLAIMS]:
        cache.gap = None
    stores = {"DittoServer": informers.servers, "ConfigMap": informers.config_maps}
    for manifest in known:
        stores[manifest["kind"]].put(manifest)
    return ReconcilerNamespace(site.cluster, informers, site.namespace)


async def test_everything_that_a_server_needs_is_made(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    for suffix in ("headless", "file", "api"):
        assert await site.exists(SERVICES, f"files-{suffix}")

    assert await site.exists(CONFIG_MAPS, "files-config")
    assert await site.exists(STATEFUL_SETS)

    for name in ("files-jwt-secret", "files-admin-bootstrap-credentials"):
        assert not (await site.live(SECRETS, name))["metadata"].get("ownerReferences")

    assert (await site.live(DITTO_SERVERS))["status"]["observedGeneration"] == 1
    assert await site.condition("CredentialsReady") == ("True", "Found")


async def test_what_is_made_is_not_written_again(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    names = ((CONFIG_MAPS, "files-config"), (SERVICES, "files-file"), (SECRETS, "files-jwt-secret"))
    before = [resource_version(await site.live(*each)) for each in names]
    generation = (await site.live(STATEFUL_SETS))["metadata"]["generation"]
    await site.reconcile()

    assert [resource_version(await site.live(*each)) for each in names] == before
    assert (await site.live(STATEFUL_SETS))["metadata"]["generation"] == generation


async def test_nothing_is_made_of_a_server_that_is_not_there_or_about_to_go(site: ReconcilerNamespace) -> None:
    assert await site.reconciler.reconcile(site.key) == Result()

    going = await site.create_server()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    other = unwatched(site, going)

    assert await other.reconciler.reconcile(site.key) == Result()
    assert not await site.exists(CONFIG_MAPS, "files-config")


async def test_nothing_is_made_of_a_server_that_nobody_judged(site: ReconcilerNamespace) -> None:
    live = await site.create_server()
    other = unwatched(site, {**live, "spec": {**live["spec"], "nfsPort": 8080}})
    await other.reconciler.reconcile(site.key)

    assert await site.condition("Stalled") == ("True", "InvalidSpec")
    assert [each.reason for each in other.events] == ["InvalidSpec"]
    assert not await site.exists(CONFIG_MAPS, "files-config")


async def test_a_name_that_is_taken_is_told_and_looked_at_again(site: ReconcilerNamespace) -> None:
    metadata = {"name": "files-file", "namespace": site.namespace}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    before = await site.cluster.create(SERVICES, theirs)
    await site.create_server()

    assert await site.reconcile() == TAKEN_RECHECK_SECONDS
    assert await site.condition("Stalled") == ("True", "NameTaken")
    assert await site.live(SERVICES, "files-file") == before


async def test_what_cannot_be_written_is_in_the_status_and_worth_another_try(site: ReconcilerNamespace) -> None:
    await site.put_secret("s3", **KEYS)
    await site.create_server(**s3(endpointKey="no key"))

    with pytest.raises(Retry):
        await site.reconcile()
    assert await site.condition("Reconciling") == ("True", "WriteFailed")
    assert not await site.exists(STATEFUL_SETS)


async def test_services_that_cannot_be_made_do_not_keep_the_pod_from_its_credentials(site: ReconcilerNamespace) -> None:
    await site.put_secret("s3", **KEYS)
    quota = {"metadata": {"name": "none", "namespace": site.namespace}, "spec": {"hard": {"services": "1"}}}
    await site.cluster.create(QUOTAS, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    await site.create_server(**s3())

    with pytest.raises(Retry, match='services "files-file" is forbidden: exceeded quota: none'):
        await site.reconcile()

    before = await site.template()

    assert await site.condition("Reconciling") == ("True", "ServiceMissing")
    assert await site.condition("CredentialsReady") == ("True", "Found")

    await site.put_secret("s3", **{**KEYS, "secretAccessKey": "two"})

    with pytest.raises(Retry):
        await site.reconcile()
    assert await site.template() != before
    assert await site.exists(SERVICES, "files-headless")


async def test_who_knows_what_is_out_of_date_says_nothing_of_it(site: ReconcilerNamespace) -> None:
    live = await site.create_server()
    await site.reconcile()
    config = await site.live(CONFIG_MAPS, "files-config")
    after = await site.cluster.replace(CONFIG_MAPS, {**config, "data": {}})
    status = (await site.live(DITTO_SERVERS))["status"]

    other = unwatched(site, {**live, "spec": {**live["spec"], "nfsPort": 2050}}, config)
    assert (await other.reconciler.reconcile(site.key)).retry
    assert await site.live(CONFIG_MAPS, "files-config") == after
    assert (await site.live(DITTO_SERVERS))["status"] == status


async def test_who_leads_no_longer_says_nothing(site: ReconcilerNamespace) -> None:
    await site.create_server()
    site.leads = lambda: False

    result = await site.reconciler.reconcile(site.key)

    assert result == Result(retry="not the leader any more")
    assert "conditions" not in (await site.live(DITTO_SERVERS))["status"]
    assert not await site.exists(CONFIG_MAPS, "files-config")


async def test_the_pod_waits_for_its_credentials(site: ReconcilerNamespace) -> None:
    await site.create_server(**s3())
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("False", "SecretNotFound")
    assert not await site.exists(STATEFUL_SETS)

    await site.put_secret("s3", accessKeyId="AKIA")
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("False", "SecretIncomplete")

    await site.put_secret("s3", **KEYS)
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("True", "Found")
    assert await site.exists(STATEFUL_SETS)


async def test_credentials_that_cannot_be_read_are_not_taken_for_absent(site: ReconcilerNamespace) -> None:
    other = unwatched(site, await site.create_server(**s3()))

    # Nothing will say when they can be read.
    with pytest.raises(Retry, match='Could not verify S3 credentials Secret "s3"'):
        await other.reconcile()
    assert await site.condition("CredentialsReady") == ("Unknown", "SecretUnreadable")
    assert not await site.exists(STATEFUL_SETS)


async def test_credentials_that_change_restart_the_pod_and_half_of_them_do_not(site: ReconcilerNamespace) -> None:
    causes = []
    site.reconciler.restart_handlers.append(lambda key, cause: causes.append((key, cause)))
    await site.put_secret("s3", **KEYS)
    await site.create_server(**s3())
    await site.reconcile()
    before = await site.template()
    await site.put_secret("s3", accessKeyId="AKIA2")
    await site.reconcile()

    assert await site.template() == before
    assert await site.condition("CredentialsReady") == ("False", "SecretIncomplete")

    await site.put_secret("s3", accessKeyId="AKIA2", secretAccessKey="two")
    await site.reconcile()

    assert await site.template() != before
    assert [each.reason for each in site.events] == ["Created", "SecretIncomplete", "Restarting", "Recovered"]
    assert causes == [(site.key, RestartCause.CREDENTIALS)]


async def test_a_pod_that_is_not_ready_makes_way_for_the_one_that_is_wanted(site: ReconcilerNamespace) -> None:
    await site.create_server(image="example.com/dittofs:typo")
    await site.reconcile()
    await until_async(lambda: site.pod is not None)
    former = site.pod
    await site.change_spec(image="example.com/dittofs:1")
    await until_async(lambda: bool(site.pod and site.stateful_set and blocks(site.pod, site.stateful_set)))
    await site.reconcile()

    assert site.events[-1].reason == "PodReplaced"

    await until_async(lambda: bool(site.pod and former and site.pod["metadata"]["uid"] != former["metadata"]["uid"]))
    [container] = (await site.live(PODS, "files-0"))["spec"]["containers"]

    assert container["image"] == "example.com/dittofs:1"

    told = list(site.events)
    await site.reconcile()

    assert site.events == told


async def test_no_pod_makes_way_while_its_configmap_is_not_ours(site: ReconcilerNamespace) -> None:
    """The next pod would start with a configuration of somebody else."""
    await site.create_server(image="example.com/dittofs:typo")
    await site.reconcile()
    await until_async(lambda: site.pod is not None)
    await site.change_spec(image="example.com/dittofs:1")
    await until_async(lambda: bool(site.pod and site.stateful_set and blocks(site.pod, site.stateful_set)))

    await site.delete(CONFIG_MAPS, "files-config")
    metadata = {"name": "files-config", "namespace": site.namespace}
    await site.cluster.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await until_async(lambda: (site.namespace, "files-config") not in site.informers.config_maps)
    await site.reconcile()

    assert "PodReplaced" not in [event.reason for event in site.events]
    assert await site.condition("Stalled") == ("True", "NameTaken")


async def test_of_a_server_that_goes_meanwhile_no_restart_is_told(site: ReconcilerNamespace) -> None:
    await site.put_secret("s3", **KEYS)
    server = await site.create_server(**s3())
    await site.reconcile()
    known = site.informers.servers
    await site.put_secret("s3", **{**KEYS, "secretAccessKey": "two"})
    going = {**server, "metadata": {**server["metadata"], "resourceVersion": str(2**62)}}

    def goes() -> bool:
        known.remove(going)
        return True

    site.leads = goes
    site.events.clear()
    await site.reconcile()

    assert site.key not in known
    assert [event.reason for event in site.events] == ["ServerDeleted"]


async def test_a_server_is_stopped_though_its_credentials_are_broken(site: ReconcilerNamespace) -> None:
    await site.put_secret("s3", **KEYS)
    await site.create_server(**s3())
    await site.reconcile()
    before = await site.template()
    await site.delete_known(SECRETS, "s3")
    await site.change_spec(replicas=0, **s3())
    found = await site.live(STATEFUL_SETS)

    assert found["spec"]["replicas"] == 0
    assert found["spec"]["template"] == before

    await site.change_spec(replicas=0, nfsPort=2050, **s3())

    assert (await site.live(STATEFUL_SETS))["metadata"]["generation"] == found["metadata"]["generation"]


async def test_a_generated_secret_that_is_lost_is_not_made_up_anew_while_a_pod_may_need_it(
    site: ReconcilerNamespace,
) -> None:
    await site.create_server()
    await site.reconcile()
    await site.delete_known(SECRETS, "files-jwt-secret")
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("False", "SecretNotFound")
    assert "generated Secret files-jwt-secret is gone: put it back" in site.events[-1].message
    assert not await site.exists(SECRETS, "files-jwt-secret")

    await site.delete_known(STATEFUL_SETS, "files")
    await site.reconcile()

    assert await site.exists(SECRETS, "files-jwt-secret")
    assert await site.condition("CredentialsReady") == ("True", "Found")


async def test_a_secret_is_generated_for_a_server_that_named_its_own_before(site: ReconcilerNamespace) -> None:
    await site.put_secret("mine", key="x" * 32)
    await site.create_server(**jwt(name="mine", key="key"))
    await site.reconcile()

    assert not await site.exists(SECRETS, "files-jwt-secret")

    await site.change_spec()

    assert await site.exists(SECRETS, "files-jwt-secret")


async def test_the_parts_of_a_connection_string_are_kept_as_the_string_is(site: ReconcilerNamespace) -> None:
    await site.put_secret("dsn", url=DSN)
    await site.create_server(**POSTGRES)
    await site.reconcile()

    assert (await site.postgres_credentials())["host"] == "db.example.com"

    before = resource_version(await site.live(SECRETS, "files-postgres"))
    await site.reconcile()

    assert resource_version(await site.live(SECRETS, "files-postgres")) == before

    await site.put_secret("dsn", url=DSN.replace("db.", "db2."))
    await site.reconcile()

    assert (await site.postgres_credentials())["host"] == "db2.example.com"
    assert (await site.postgres_credentials())["password"] == "hunter2"


async def test_the_parts_of_a_connection_string_go_with_it(site: ReconcilerNamespace) -> None:
    await site.put_secret("dsn", url=DSN)
    await site.create_server(**POSTGRES)
    await site.reconcile()
    await site.change_spec()

    assert not await site.exists(SECRETS, "files-postgres")
    assert await site.exists(SECRETS, "dsn")


async def test_a_connection_string_that_cannot_be_read_is_told_without_a_word_of_it(site: ReconcilerNamespace) -> None:
    await site.put_secret("dsn", url="hunter2 is the password")
    await site.create_server(**POSTGRES)
    await site.reconcile()
    [creation, news] = site.events

    assert creation.reason == "Created"
    assert news.reason == "SecretIncomplete"
    assert 'Postgres Secret "dsn" key "url": expected postgres://' in news.message
    assert "hunter2" not in news.message
    assert not await site.exists(SECRETS, "files-postgres")
    assert not await site.exists(STATEFUL_SETS)


async def test_a_connection_string_that_is_optional_may_be_absent(site: ReconcilerNamespace) -> None:
    reference = {**POSTGRES["database"]["postgresSecretRef"], "optional": True}  # type: ignore[dict-item]
    await site.create_server(database={"type": "postgres", "postgresSecretRef": reference})
    await site.reconcile()

    assert await site.condition("CredentialsReady") == ("True", "Found")
    assert not await site.exists(SECRETS, "files-postgres")


async def test_a_reference_that_names_no_secret_is_told(site: ReconcilerNamespace) -> None:
    await site.create_server(database={"type": "postgres", "postgresSecretRef": {"key": "url"}})
    await site.reconcile()
    assert await site.condition("CredentialsReady") == ("False", "SecretNotFound")
    assert "Postgres Secret is not named" in site.events[-1].message


async def test_the_metrics_service_goes_when_metrics_are_off(site: ReconcilerNamespace) -> None:
    await site.create_server(metrics={"enabled": True})
    await site.reconcile()

    assert await site.exists(SERVICES, "files-metrics")

    await site.change_spec(metrics={"enabled": False})

    assert not await site.exists(SERVICES, "files-metrics")
    assert await site.exists(SERVICES, "files-file")


async def test_a_service_of_somebody_else_is_left_where_ours_would_be(site: ReconcilerNamespace) -> None:
    metadata = {"name": "files-metrics", "namespace": site.namespace, "labels": {"app": "dittofs-server"}}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    before = await site.cluster.create(SERVICES, theirs)
    await site.create_server()
    await until_async(lambda: (site.namespace, "files-metrics") in site.informers.services)
    await site.reconcile()

    assert await site.live(SERVICES, "files-metrics") == before


async def test_a_claim_that_waits_for_too_long_is_looked_at_in_time(site: ReconcilerNamespace) -> None:
    """However long there has been the server: a content volume can be added later."""
    await site.create_server()
    # Both are told in whole seconds.
    await asyncio.sleep(1.1)
    claim = {
        "metadata": {"name": "metadata-files-0", "namespace": site.namespace, "labels": {"app": "dittofs-server"}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }
    made = await site.cluster.create(CLAIMS, {"apiVersion": "v1", "kind": CLAIMS.kind, **claim})
    created = datetime.fromisoformat(made["metadata"]["creationTimestamp"])
    site.fixed_time = created + timedelta(seconds=100)
    await until_async(lambda: (site.namespace, "metadata-files-0") in site.informers.claims)

    assert await site.reconcile() == CLAIM_PATIENCE_SECONDS - 100 + 1
    assert await site.condition("StorageReady") == ("False", "ClaimPending")

    site.fixed_time = created + timedelta(seconds=CLAIM_PATIENCE_SECONDS)
    await site.reconcile()

    assert await site.condition("StorageReady") == ("False", "ClaimOverdue")

    # The StatefulSet's controller makes the cache's claim some time after this one.
    await until_async(lambda: (site.namespace, "cache-files-0") in site.informers.claims)
    site.fixed_time += timedelta(minutes=1)

    assert await site.reconcile() is None


async def test_it_is_said_since_when_by_the_clock(site: ReconcilerNamespace) -> None:
    await site.create_server()
    before = datetime.now(UTC).replace(microsecond=0)
    await Reconciler(site.cluster, site.informers, site.writer, site.record_event).reconcile(site.key)
    found = conditions(await site.live(DITTO_SERVERS))["Ready"]

    assert before <= datetime.fromisoformat(found["lastTransitionTime"]) <= datetime.now(UTC)


async def test_a_rejected_statefulset_holds_up_nothing(site: ReconcilerNamespace) -> None:
    """By a key that no Secret can have: no section is at fault that could stay as it is."""
    await site.put_secret("s3", **KEYS)
    await site.create_server()
    await site.reconcile()
    before = await site.template()

    with pytest.raises(Retry, match="Invalid value"):
        await site.change_spec(nfsPort=2050, cache={"size": "2GB"}, **s3(endpointKey="no key"))

    [port] = (await site.live(SERVICES, "files-file"))["spec"]["ports"]

    assert port["port"] == 2050
    assert "2GB" in (await site.live(CONFIG_MAPS, "files-config"))["data"]["config.yaml"]
    assert await site.template() == before
    assert await endpoint(site) == f"files-file.{site.namespace}.svc.cluster.local:2050"


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"resources": {"limit": {"memory": "1Gi"}}}, "resources"),
        ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}, "resources"),
        ({"securityContext": {"runAsUser": -1}}, "securityContext"),
        ({"podSecurityContext": {"fsGroup": "everybody"}}, "podSecurityContext"),
        ({"securityContext": {"runAsUser": -1}, "podSecurityContext": {"fsGroup": -1}}, "securityContext and pod"),
    ],
)
async def test_a_rejected_section_keeps_its_value(site: ReconcilerNamespace, sections: Manifest, named: str) -> None:
    """It slipped in while the webhook was down. What else changed is applied, credentials above all."""
    good = {"resources": {"limits": {"memory": "2Gi"}}, "securityContext": {"runAsUser": 1000}}
    await site.put_secret("s3", **KEYS)
    await site.create_server(**good, **s3())
    await site.reconcile()
    before = await site.template()

    await site.change_spec(**{**good, **sections}, image="example.com/dittofs:2", **s3())

    assert await site.condition("Stalled") == ("True", "SectionRejected")

    message = conditions(await site.live(DITTO_SERVERS))["Stalled"]["message"]

    assert f"the pod keeps {named}" in message

    after = await site.template()

    assert after["spec"]["containers"][0]["image"] == "example.com/dittofs:2"

    for name in ("resources", "securityContext"):
        assert after["spec"]["containers"][0][name] == before["spec"]["containers"][0][name]

    assert after["spec"]["securityContext"] == before["spec"]["securityContext"]

    await site.put_secret("s3", **{**KEYS, "secretAccessKey": "two"})
    written = resource_version(await site.live(STATEFUL_SETS))
    await site.reconcile()

    assert resource_version(await site.live(STATEFUL_SETS)) != written
    assert [event.type for event in site.events if event.reason == "SectionRejected"] == ["Warning"]

    await site.change_spec(**good, **s3())

    assert await site.condition("Stalled") == ("False", "Reconciled")


async def test_a_recreated_server_is_judged_anew(site: ReconcilerNamespace) -> None:
    """It has the name and the generation of the one before."""
    await site.create_server(securityContext={"runAsUser": -1})
    await site.reconcile()

    assert await site.condition("Stalled") == ("True", "SectionRejected")

    await site.delete(DITTO_SERVERS)
    await until_async(lambda: site.key not in site.informers.servers)

    await site.create_server(securityContext={"runAsUser": 1000})
    async with asyncio.timeout(120):
        while not await site.exists(STATEFUL_SETS):
            # The objects of the former one are yet to go.
            await site.reconciler.reconcile(site.key)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "sections", [{"resources": {"limit": {"memory": "1Gi"}}}, {"securityContext": {"runAsUser": -1}}]
)
async def test_a_new_server_runs_with_its_sections_or_not(site: ReconcilerNamespace, sections: Manifest) -> None:
    """A field that no pod has is not dropped without a word."""
    await site.create_server(**sections)

    await site.reconcile()

    assert not await site.exists(STATEFUL_SETS)

    message = conditions(await site.live(DITTO_SERVERS))["Stalled"]["message"]

    assert message.startswith("no pod can be created: ")


async def test_a_rejected_section_creates_no_pod(site: ReconcilerNamespace) -> None:
    await site.create_server(securityContext={"runAsUser": -1})

    await site.reconcile()

    assert await site.condition("Stalled") == ("True", "SectionRejected")
    assert await site.condition("Ready") == ("False", "SectionRejected")
    assert not await site.exists(STATEFUL_SETS)
    assert await site.exists(SERVICES, "files-file")

    await site.change_spec(securityContext={"runAsUser": 1000})

    assert await site.exists(STATEFUL_SETS)


async def test_a_rejected_configmap_holds_up_no_service(site: ReconcilerNamespace) -> None:
    """The pod waits: it must not start with a configuration that is not there, nor with the former one."""
    metadata = {"name": "files-config", "namespace": site.namespace}
    await site.cluster.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await site.create_server()

    assert await site.reconcile() == TAKEN_RECHECK_SECONDS

    assert await site.condition("Stalled") == ("True", "NameTaken")
    assert await site.exists(SERVICES, "files-file")
    assert not await site.exists(STATEFUL_SETS)


async def test_a_taken_service_name_holds_up_no_pod(site: ReconcilerNamespace) -> None:
    metadata = {"name": "files-headless", "namespace": site.namespace}
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    await site.cluster.create(SERVICES, theirs)
    await site.create_server()

    await site.reconcile()

    assert await site.condition("Stalled") == ("True", "NameTaken")
    assert await site.exists(STATEFUL_SETS)
    assert await site.exists(SERVICES, "files-api")


async def endpoint(site: ReconcilerNamespace) -> str | None:
    endpoint: str | None = (await site.live(DITTO_SERVERS))["status"].get("nfsEndpoint")
    return endpoint


async def test_the_endpoint_follows_the_live_service(site: ReconcilerNamespace) -> None:
    """A Service that cannot be changed stays where it was, and clients with it."""
    quota = {"metadata": {"name": "none", "namespace": site.namespace}, "spec": {"hard": {"services.nodeports": "0"}}}
    await site.create_server()
    await site.reconcile()
    await site.cluster.create(QUOTAS, {"apiVersion": "v1", "kind": "ResourceQuota", **quota})

    with pytest.raises(Retry, match="exceeded quota"):
        await site.change_spec(service={"type": "NodePort"}, nfsPort=2050)

    assert await endpoint(site) == f"files-file.{site.namespace}.svc.cluster.local:2049"

    found = conditions(await site.live(DITTO_SERVERS))["Reconciling"]

    assert (found["status"], found["reason"]) == ("True", "ServiceOutdated")


@pytest.mark.parametrize(
    ("former", "theirs"),
    [
        ("LoadBalancer", {"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
        ("LoadBalancer", {"loadBalancerIP": "10.1.2.3", "externalTrafficPolicy": "Local"}),
        ("LoadBalancer", {"loadBalancerClass": "example.com/internal", "allocateLoadBalancerNodePorts": False}),
        ("NodePort", {"externalTrafficPolicy": "Local"}),
        ("NodePort", {"sessionAffinity": "ClientIP"}),
    ],
)
@pytest.mark.parametrize("wanted", ["ClusterIP", "NodePort"])
async def test_a_service_leaves_its_former_type(
    site: ReconcilerNamespace, former: str, theirs: Manifest, wanted: str
) -> None:
    """Though another manager has set what only fits that type."""
    await site.create_server(service={"type": "ClusterIP"})
    await site.reconcile()
    metadata = {"name": "files-file", "namespace": site.namespace}
    spec = {"type": former, **theirs}
    await site.cluster.apply(
        SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}, "they"
    )
    await site.change_spec(service={"type": former})

    await site.change_spec(service={"type": wanted})

    live = (await site.live(SERVICES, "files-file"))["spec"]

    assert live["type"] == wanted
    assert live["sessionAffinity"] == theirs.get("sessionAffinity", "None")
    assert not live.keys() & {"loadBalancerSourceRanges", "loadBalancerClass"}
    assert await site.condition("Reconciling") == ("True", "ClaimPending")


async def test_the_address_of_a_load_balancer_is_an_endpoint(
    site: ReconcilerNamespace, control_plane: ControlPlane
) -> None:
    await site.create_server(service={"type": "LoadBalancer"})
    await site.reconcile()
    assert await site.condition("EndpointsReady") == ("False", "LoadBalancerPending")
    assert await site.condition("Reconciling") == ("True", "ClaimPending")

    balancer = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps(balancer))
    control_plane.kubectl("--namespace", site.namespace, "patch", "service", "files-file", *patch)
    key = site.namespace, "files-file"
    await until_async(lambda: "192.0.2.7" in json.dumps(site.informers.services.get(key)))
    await site.reconcile()

    assert await site.condition("EndpointsReady") == ("True", "Assigned")
    nfs, api = (await site.live(DITTO_SERVERS))["status"]["endpoints"]
    assert (nfs["protocol"], nfs["externalAddress"], nfs["port"]) == ("nfs", "192.0.2.7", 2049)
    assert nfs["clusterIP"].startswith("10.0.")
    assert api.keys() == {"protocol", "host", "clusterIP", "port"}
    assert "APIExposed" not in [event.reason for event in site.events]


async def test_an_api_that_was_exposed_stays_so_until_the_spec_says(
    site: ReconcilerNamespace, control_plane: ControlPlane
) -> None:
    """As servers of the version before service.api are, with the type of both Services in the spec."""
    await site.create_server(service={"type": "NodePort", "api": {"type": "NodePort"}})
    await site.reconcile()
    exposed = await site.live(SERVICES, "files-api")
    metadata = {"name": "files", "namespace": site.namespace}
    await site.cluster.patch_status(DITTO_SERVERS, {"metadata": metadata, "status": {"endpoints": None}})
    await site.change_spec(service={"type": "NodePort", "api": None})

    assert resource_version(await site.live(SERVICES, "files-api")) == resource_version(exposed)
    assert [event.type for event in site.events if event.reason == "APIExposed"] == ["Warning"]

    await site.change_spec(nfsPort=2050)
    await site.change_spec(service={"type": "NodePort", "api": {"type": "ClusterIP"}})

    assert (await site.live(SERVICES, "files-api"))["spec"]["type"] == "ClusterIP"
    assert (await site.live(SERVICES, "files-file"))["spec"]["type"] == "NodePort"
    assert len([event for event in site.events if event.reason == "APIExposed"]) == 1


async def test_an_api_whose_service_lost_its_labels_stays_exposed(
    site: ReconcilerNamespace, control_plane: ControlPlane
) -> None:
    await site.create_server(service={"type": "NodePort", "api": {"type": "NodePort"}})
    await site.reconcile()
    await site.change_spec(service={"type": "NodePort", "api": None})
    before = (await site.live(SERVICES, "files-api"))["spec"]
    control_plane.kubectl("--namespace", site.namespace, "label", "service", "files-api", "app-")
    key = site.namespace, "files-api"
    await until_async(lambda: key not in site.informers.services)

    await site.reconcile()

    after = await site.live(SERVICES, "files-api")
    assert after["spec"] == before
    assert after["metadata"]["labels"]["app"] == "dittofs-server"


async def test_an_image_behind_the_same_tag_is_reported(site: ReconcilerNamespace, control_plane: ControlPlane) -> None:
    old, new = (f"docker.io/dittofs@sha256:{letter * 64}" for letter in "ab")
    await site.create_server()
    await site.reconcile()
    await until_async(lambda: site.pod is not None)

    for image_id in (old, new):
        container = {"name": "dittofs", "ready": True, "restartCount": 0, "image": "i", "imageID": image_id}
        change = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [container]}
        patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": change}))
        control_plane.kubectl("--namespace", site.namespace, "patch", "pod", "files-0", *patch)
        await until_async(lambda wanted=image_id: wanted in json.dumps(site.pod))  # type: ignore[misc]
        await site.reconcile()

    server = (await site.live(DITTO_SERVERS))["status"]["server"]
    assert server == {"image": IMAGE, "imageID": new, "previousImageID": old}
    [event] = [event for event in site.events if event.reason == "ImageChanged"]
    assert event.type == "Warning"
    assert old[-71:] in event.message
    assert new[-71:] in event.message


async def test_objects_that_lost_their_labels_are_found(site: ReconcilerNamespace) -> None:
    await site.create_server()
    await site.reconcile()
    belongings = {
        STATEFUL_SETS: ("files",),
        CONFIG_MAPS: ("files-config",),
        SERVICES: ("files-file", "files-api", "files-headless"),
    }
    stores = {
        STATEFUL_SETS: site.informers.stateful_sets,
        CONFIG_MAPS: site.informers.config_maps,
        SERVICES: site.informers.services,
    }

    before = {}
    for resource, names in belongings.items():
        for name in names:
            before[name] = await site.edit_metadata(resource, name, labels={})
            await until_async(lambda s=stores[resource], n=name: (site.namespace, n) not in s)  # type: ignore[misc]
    await site.reconcile()

    for resource, names in belongings.items():
        for name in names:
            after = await site.live(resource, name)
            assert after["metadata"]["uid"] == before[name]["metadata"]["uid"]
            assert after["metadata"]["labels"]["app"] == "dittofs-server"

    assert await site.condition("Stalled") == ("False", "Reconciled")


async def test_what_ends_during_a_reconcile_is_forgotten(
    site: ReconcilerNamespace, control_plane: ControlPlane
) -> None:
    await site.create_server()
    control_plane.kubectl("-n", site.namespace, "annotate", "dittoserver", "files", f"{PAUSED_ANNOTATION}=true")
    await until_async(lambda: is_paused(site.informers.servers.get(site.key) or {}))
    await site.reconcile()
    manifest = site.informers.servers.get(site.key)
    assert manifest
    servers, goes = site.informers.servers, True

    def clock() -> datetime:
        if goes:
            servers.remove(manifest)
        return site.now()

    reconciler = Reconciler(site.cluster, site.informers, site.writer, site.record_event, clock)
    await reconciler.reconcile(site.key)
    goes = False
    servers.put(manifest)
    with record_lines() as lines:
        await reconciler.reconcile(site.key)

    assert [line["problem"] for line in lines if line["message"] == "held back"] == [PAUSED]
