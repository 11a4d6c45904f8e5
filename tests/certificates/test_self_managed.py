"""Our own certificate at the real API server, which trusts it or does not: each admission goes to two replicas."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import REGISTRY

from app.admission.api import webhook
from app.admission.server import WebhookServer
from app.certificates.ca_bundles import MANAGER
from app.certificates.self_managed import CheckTiming, SelfManagedCertificate
from app.cluster.client import Cluster
from app.storage.events import Event
from app.storage.facts import Facts, Needs
from app.storage.webhook_configurations import webhook_configurations
from certs.authority import Authority, certificates
from certs.rotation import CA, CA_KEY, FORMER, NEXT, SERVING, SERVING_KEY, CertificateOptions
from tests.controlplane.cluster import ControlPlane
from tests.harness.free_ports import free_port
from tests.harness.server_table import server
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

SECRET = "own-tls"
PLAN = CertificateOptions(("localhost", "127.0.0.1"))
KINDS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
REGISTRATION, RBAC, AUTHORIZATION = (
    f"/apis/{group}.k8s.io/v1" for group in ("admissionregistration", "rbac.authorization", "authorization")
)
# What takes minutes on a cluster is seen to happen within seconds.
QUICK = CheckTiming(check=0.2, retry=0.2, pace=0.05, settle=1.0)
NOW = datetime.now(UTC)
DAY = timedelta(days=1)

Content = Mapping[str, bytes]

# All that it needs, and that the chart gives.
RIGHTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {{name: certificate}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: certificate}}
rules:
- {{apiGroups: [""], resources: [secrets], verbs: [create]}}
- {{apiGroups: [""], resources: [secrets], resourceNames: [own-tls], verbs: [list, watch, update]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {name}}}
rules:
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations, validatingwebhookconfigurations]
  resourceNames: [{name}]
  verbs: [list, watch, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: certificate}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: certificate}}
subjects: [{{kind: ServiceAccount, name: certificate, namespace: {name}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}
subjects: [{{kind: ServiceAccount, name: certificate, namespace: {name}}}]
"""


class Site:
    """A namespace with an account that may do what is needed, and webhook configurations named as the namespace."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.control_plane = control_plane
        self.name = namespace
        self.ports = (free_port(), free_port())
        self.kubectl("apply", "-f", "-", input=RIGHTS.format(name=namespace))
        self.kubeconfig = control_plane.kubeconfig_for("certificate", namespace)

    def kubectl(self, *args: str, **options: Any) -> str:
        return self.control_plane.kubectl("--namespace", self.name, *args, **options).stdout

    def may_create_secrets(self) -> bool:
        asked = {
            "user": f"system:serviceaccount:{self.name}:certificate",
            "resourceAttributes": {"namespace": self.name, "verb": "create", "resource": "secrets"},
        }
        answer = self.control_plane.create(f"{AUTHORIZATION}/subjectaccessreviews", {"spec": asked})
        return bool(answer["status"]["allowed"])

    def clean(self) -> None:
        kinds = [f"{REGISTRATION}/{kind}s" for kind in KINDS]
        for path in (*kinds, f"{RBAC}/clusterroles", f"{RBAC}/clusterrolebindings"):
            self.control_plane.delete(f"{path}?fieldSelector=metadata.name%3D{self.name}")

    def register(self, bundle: bytes = b"", **annotations: str) -> None:
        """The mutating webhook at the first replica, the validating one at the second; both fail closed."""
        made = webhook_configurations(lambda path: {"caBundle": base64.b64encode(bundle).decode(), "path": path})
        for port, configuration in zip(self.ports, made, strict=True):
            configuration["metadata"] = {"name": self.name, "annotations": annotations}
            [each] = configuration["webhooks"]
            path = each["clientConfig"].pop("path")
            each["clientConfig"] |= {"url": f"https://localhost:{port}{path}"}
            each |= {"failurePolicy": "Fail", "timeoutSeconds": 10}
            # Other tests have DittoServers of their own.
            each["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": self.name}}
        self.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(made))

    def configurations(self) -> list[Any]:
        found = [self.control_plane.get(f"{REGISTRATION}/{kind}s/{self.name}") for kind in KINDS]
        return [each for each in found if each]

    def bundles(self) -> set[bytes]:
        return {
            base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
            for each in self.configurations()
            for webhook in each["webhooks"]
        }

    def put_bundle(self, bundle: bytes) -> None:
        value = base64.b64encode(bundle).decode()
        patch = json.dumps([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": value}])
        for kind in KINDS:
            self.kubectl("patch", kind, self.name, "--type=json", "-p", patch)

    def content(self) -> dict[str, bytes]:
        """Empty when there is no Secret."""
        found = self.secret()
        return {name: base64.b64decode(value) for name, value in (found["data"] if found else {}).items()}

    def secret(self) -> Any:
        return self.control_plane.get(f"/api/v1/namespaces/{self.name}/secrets/{SECRET}")

    def put_secret(self, content: Content) -> None:
        data = {name: base64.b64encode(value).decode() for name, value in content.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}
        self.kubectl("create", "-f", "-", input=json.dumps(secret))

    def admitting(self) -> httpx.AsyncClient:
        """Asks the API server as admin."""
        trust = ssl.create_default_context(cafile=self.control_plane.ca_file)
        headers = {"Authorization": f"Bearer {self.control_plane.token}"}
        return httpx.AsyncClient(
            base_url=self.control_plane.url, verify=trust, headers=headers, trust_env=False, timeout=30
        )

    async def refusal(self, client: httpx.AsyncClient) -> str | None:
        """Why a DittoServer is not admitted, None when it is; nothing is stored."""
        path = f"/apis/dittofs.dittofs.com/v1alpha1/namespaces/{self.name}/dittoservers?dryRun=All"
        answer = await client.post(path, json=server())
        return None if answer.status_code == 201 else answer.text


@pytest.fixture
def site(control_plane: ControlPlane, crd: None, namespace: str) -> Iterator[Site]:
    site = Site(control_plane, namespace)
    yield site
    site.clean()


@dataclass
class Replica:
    """One at work, and what it tells; its probe says no as long as `holding`, and lets somebody `interfere`."""

    own: SelfManagedCertificate
    webhook: WebhookServer
    news: list[Event]
    holding: bool = False
    interfere: Callable[[], object] = lambda: None

    async def is_ready(self) -> None:
        await until_async(lambda: self.own.why_not_ready() is None)

    async def probe(self, name: str, authorities: bytes) -> str | None:
        await asyncio.to_thread(self.interfere)
        return "on hold" if self.holding else await self.webhook.why_not_trusted(name, authorities)

    async def serves_what_is_signed_by(self, authority: bytes) -> None:
        issuer = certificates(authority)
        await until_async(lambda: self.own.served is not None and (self.own.served.issuer,) == issuer)

    async def says(self, reason: str) -> str:
        await until_async(lambda: reason in [each.reason for each in self.news])
        return next(each.message for each in self.news if each.reason == reason)


async def nothing(_needs: Needs) -> Facts:
    return Facts()


@asynccontextmanager
async def replica(site: Site, port: int, *, holding: bool = False) -> AsyncIterator[Replica]:
    news: list[Event] = []
    async with Cluster.connect(site.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        own = SelfManagedCertificate(cluster, SECRET, site.name, PLAN, lambda _, said: news.append(said))
        served = WebhookServer(webhook(nothing), "127.0.0.1", port, own.context)
        await served.listen()
        made = Replica(own, served, news, holding)
        group.create_task(served.serve())
        keeping = group.create_task(own.run(made.probe, QUICK))
        try:
            yield made
        finally:
            keeping.cancel()
            await served.drain(0)


@asynccontextmanager
async def replicas(site: Site, *, holding: bool = False) -> AsyncIterator[tuple[Replica, Replica]]:
    first, second = site.ports
    async with replica(site, first, holding=holding) as one, replica(site, second, holding=holding) as other:
        yield one, other


@dataclass
class Stream:
    """Admissions, one after another for as long as it runs."""

    tried: int = 0
    refusals: list[str] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def at(cls, site: Site) -> AsyncIterator["Stream"]:
        stream = cls()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(stream._run(site))
            await stream.goes_on(20)
            yield stream
            await stream.goes_on(20)
            running.cancel()
        assert stream.refusals == []

    async def goes_on(self, further: int) -> None:
        enough = self.tried + further
        await until_async(lambda: self.tried >= enough)

    async def _run(self, site: Site) -> None:
        async with site.admitting() as client:
            while self.tried < 20000:
                if refusal := await site.refusal(client):
                    self.refusals.append(refusal)
                self.tried += 1


async def seen(holds: Callable[[], bool]) -> None:
    """Waits for it as until_async does, though it asks: the replicas' event loop is this one, and goes on."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - the answer takes its time
            await asyncio.sleep(0.1)


async def is_admitted(site: Site) -> bool:
    async with site.admitting() as client:
        return await site.refusal(client) is None


async def test_two_that_start_at_once_on_an_empty_cluster_agree_on_one_ca(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for each in both:
            await each.is_ready()

        assert await is_admitted(site)
    content = site.content()

    assert content.keys() == {CA, CA_KEY, SERVING, SERVING_KEY}
    assert site.bundles() == {content[CA]}
    assert [each.reason for one in both for each in one.news].count("CertificatesIssued") == 1

    labels = site.secret()["metadata"]["labels"]

    assert labels == {"app.kubernetes.io/managed-by": "dittofs-operator"}


def made(days_ago: float, serving: float = 1) -> dict[str, bytes]:
    authority = Authority.create("before", NOW - days_ago * DAY)
    pair = authority.issue_pair(PLAN.hosts, NOW - serving * DAY)
    return {CA: authority.pem, CA_KEY: authority.key_pem, SERVING: pair.certificate, SERVING_KEY: pair.key}


def foreign() -> dict[str, bytes]:
    authority = Authority.create("another", NOW)
    pair = authority.issue_pair(["example.com"], NOW)
    return {CA: authority.pem, SERVING: pair.certificate, SERVING_KEY: pair.key}


@pytest.mark.parametrize(
    "content",
    [{}, foreign(), made(400, 400), {**made(1), CA: b"nonsense"}, {**made(1), SERVING_KEY: b""}],
    ids=["empty", "foreign", "expired", "corrupt", "half written"],
)
async def test_a_secret_that_is_not_as_it_should_be_heals(site: Site, content: Content) -> None:
    site.put_secret(content)
    site.register()
    async with replicas(site) as both:
        for each in both:
            await each.is_ready()

        assert await is_admitted(site)
        assert "Warning" in {each.type for one in both for each in one.news}


@pytest.mark.parametrize("bundle", [b"", b"nonsense"])
async def test_a_bundle_that_is_blanked_or_changed_is_put_back(site: Site, bundle: bytes) -> None:
    site.register()
    async with replicas(site) as both:
        for each in both:
            await each.is_ready()
        before = site.bundles()
        site.put_bundle(bundle)
        await seen(lambda: site.bundles() == before)

        assert await is_admitted(site)


async def test_nothing_but_the_bundle_is_owned(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for each in both:
            await each.is_ready()
    for each in site.configurations():
        [ours] = [entry for entry in each["metadata"]["managedFields"] if entry["manager"] == MANAGER]
        [webhook] = ours["fieldsV1"]["f:webhooks"].values()
        assert webhook == {".": {}, "f:clientConfig": {"f:caBundle": {}}, "f:name": {}}


async def test_ca_and_certificate_change_without_one_failed_admission(site: Site) -> None:
    """The CA is past two thirds of its life; the change is held up until admissions are under way."""
    old = made(250)
    site.put_secret(old)
    site.register()
    async with replicas(site, holding=True) as both:
        for each in both:
            await each.is_ready()
            assert "on hold" in await each.says("CertificateWaiting")

        assert NEXT in site.content()

        async with Stream.at(site) as stream:
            assert (await asyncio.to_thread(site.content))[CA] == old[CA]

            for each in both:
                each.holding = False
            await seen(lambda: site.content()[CA] != old[CA])
            for each in both:
                await each.serves_what_is_signed_by((await asyncio.to_thread(site.content))[CA])
            await stream.goes_on(50)
            new = await asyncio.to_thread(site.content)

            assert new[CA] != old[CA]
            assert set(certificates(new[FORMER])) == set(certificates(old[CA]))

            # A certificate alone is changed likewise.
            await asyncio.to_thread(
                site.kubectl, "patch", "secret", SECRET, "--type=merge", "-p", json.dumps({"data": {SERVING: ""}})
            )
            await seen(lambda: site.content()[SERVING] not in (b"", new[SERVING]))
            for each in both:
                await each.serves_what_is_signed_by((await asyncio.to_thread(site.content))[CA])
            await stream.goes_on(50)
    print(f"{stream.tried} admissions, {len(stream.refusals)} failed")


async def test_a_secret_that_is_deleted_is_made_again_without_one_failed_admission(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for each in both:
            await each.is_ready()
        former = site.content()[CA]
        async with Stream.at(site):
            await asyncio.to_thread(site.kubectl, "delete", "secret", SECRET)
            await seen(lambda: site.content().get(CA, former) != former)
            for each in both:
                await each.serves_what_is_signed_by((await asyncio.to_thread(site.content))[CA])


async def test_what_another_has_changed_meanwhile_is_not_overwritten(site: Site) -> None:
    """The probe comes between what is seen of the Secret and what is written."""
    old = made(250)
    site.put_secret(old)
    site.register()
    async with replica(site, site.ports[0]) as alone:
        alone.interfere = lambda: site.kubectl("annotate", "secret", SECRET, "changed=yes", "--overwrite")
        await seen(lambda: site.content()[CA] != old[CA])
    metadata = site.secret()["metadata"]

    assert metadata["annotations"] == {"changed": "yes"}


async def test_what_is_served_stays_published_though_the_secret_cannot_be_made_again(site: Site) -> None:
    site.register()
    async with replica(site, site.ports[0]) as alone:
        await alone.is_ready()
        before = site.bundles()
        site.kubectl("patch", "role", "certificate", "--type=json", "-p", '[{"op": "remove", "path": "/rules/0"}]')
        await seen(lambda: not site.may_create_secrets())
        site.kubectl("delete", "secret", SECRET)
        await until_async(lambda: "forbidden" in str(alone.own._problem))
        site.put_bundle(b"")
        await seen(lambda: site.bundles() == before)

    assert site.content() == {}


async def test_a_bundle_of_another_mode_stays_while_ours_is_added(site: Site) -> None:
    other = Authority.create("another", NOW)
    site.register(other.pem)
    async with replicas(site) as both:
        for each in both:
            await each.is_ready()
        [bundle] = site.bundles()

        assert set(certificates(bundle)) == {other.certificate, *certificates(site.content()[CA])}


async def test_it_waits_for_webhook_configurations_and_says_so(site: Site) -> None:
    async with replica(site, site.ports[0]) as alone:
        await until_async(lambda: alone.own.served is not None)
        waits = "waiting for MutatingWebhookConfiguration and ValidatingWebhookConfiguration"

        assert waits in str(alone.own.why_not_ready())

        site.register()
        await alone.is_ready()


async def test_what_cert_manager_writes_is_left_alone(site: Site) -> None:
    bundle = Authority.create("cert-manager", NOW).pem
    site.register(bundle, **{"cert-manager.io/inject-ca-from": "somewhere/else"})
    async with replica(site, site.ports[0]) as alone:
        assert "cert-manager.io/inject-ca-from: its caBundle is left alone" in await alone.says("CertificateWaiting")
        assert "trusts the certificate yet" in str(alone.own.why_not_ready())

    assert site.bundles() == {bundle}


async def test_what_it_may_not_do_is_said(site: Site) -> None:
    site.register()
    site.kubectl("delete", "rolebinding", "certificate")
    async with replica(site, site.ports[0]) as alone:
        await until_async(lambda: "cannot be watched: forbidden" in str(alone.own.why_not_ready()))
    site.kubectl("apply", "-f", "-", input=RIGHTS.format(name=site.name))
    site.kubectl("delete", "clusterrolebinding", site.name)
    async with replica(site, site.ports[0]) as alone:
        # The Secret's certificate does not wait for the configurations.
        await alone.says("CertificateServed")


async def test_with_an_expired_certificate_it_is_not_ready(site: Site) -> None:
    site.register()
    async with replica(site, site.ports[0]) as alone:
        await alone.is_ready()
        # For this one question: nothing is awaited that could put the time right.
        alone.own._cluster._server_time = NOW + 91 * DAY, monotonic()

        assert alone.own.why_not_ready() == "the certificate that is served has expired"


async def test_as_long_as_nothing_changes_nothing_is_asked_for(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for each in both:
            await each.is_ready()
        await asyncio.sleep(QUICK.settle + QUICK.pace)
        before = requests()
        # Ten looks and more.
        await asyncio.sleep(10 * (QUICK.check + QUICK.pace))

        assert requests() == before


def requests() -> float:
    """Those that have ended; a watch goes on."""
    [family] = [each for each in REGISTRY.collect() if each.name == "rest_client_requests"]
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


async def test_seconds_to_expiry_are_metrics(site: Site) -> None:
    site.register()
    async with replica(site, site.ports[0]) as alone:
        await alone.is_ready()
        seconds = [
            REGISTRY.get_sample_value("dittofs_operator_certificate_expiry_seconds", {"certificate": which})
            for which in ("ca", "serving")
        ]

    assert seconds == [pytest.approx(days * 86400, abs=120) for days in (365, 90)]
