"""The self-managed certificate at the real API server: each admission goes to two replicas, which must be trusted."""

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
from tests.harness.webhook_site import seconds_left

pytestmark = pytest.mark.anyio

SECRET = "own-tls"
PLAN = CertificateOptions(("localhost", "127.0.0.1"))
KINDS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
REGISTRATION, RBAC, AUTHORIZATION = (
    f"/apis/{group}.k8s.io/v1" for group in ("admissionregistration", "rbac.authorization", "authorization")
)
# Makes happen within seconds what takes minutes in a cluster.
QUICK = CheckTiming(check=0.2, retry=0.2, pace=0.05, settle=1.0)
NOW = datetime.now(UTC)
DAY = timedelta(days=1)

Content = Mapping[str, bytes]

# The permissions that it needs and that the chart grants.
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
    """Provides a namespace with an account that has the permissions; the webhook configurations have its name."""

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
        """Registers the mutating webhook at the first replica, the validating one at the second; both fail closed."""
        configurations = webhook_configurations(
            lambda path: {"caBundle": base64.b64encode(bundle).decode(), "path": path}
        )
        for port, configuration in zip(self.ports, configurations, strict=True):
            configuration["metadata"] = {"name": self.name, "annotations": annotations}
            [webhook] = configuration["webhooks"]
            path = webhook["clientConfig"].pop("path")
            webhook["clientConfig"] |= {"url": f"https://localhost:{port}{path}"}
            webhook |= {"failurePolicy": "Fail", "timeoutSeconds": 10}
            # Other tests create DittoServers too.
            webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": self.name}}
        self.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(configurations))

    def configurations(self) -> list[Any]:
        live = [self.control_plane.get(f"{REGISTRATION}/{kind}s/{self.name}") for kind in KINDS]
        return [configuration for configuration in live if configuration]

    def bundles(self) -> set[bytes]:
        return {
            base64.b64decode(webhook["clientConfig"].get("caBundle", ""))
            for configuration in self.configurations()
            for webhook in configuration["webhooks"]
        }

    def put_bundle(self, bundle: bytes) -> None:
        value = base64.b64encode(bundle).decode()
        patch = json.dumps([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": value}])
        for kind in KINDS:
            self.kubectl("patch", kind, self.name, "--type=json", "-p", patch)

    def content(self) -> dict[str, bytes]:
        """Returns {} when there is no Secret."""
        secret = self.secret()
        return {name: base64.b64decode(value) for name, value in (secret["data"] if secret else {}).items()}

    def secret(self) -> Any:
        return self.control_plane.get(f"/api/v1/namespaces/{self.name}/secrets/{SECRET}")

    def put_secret(self, content: Content) -> None:
        data = {name: base64.b64encode(value).decode() for name, value in content.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": data}
        self.kubectl("create", "-f", "-", input=json.dumps(secret))

    def admin_client(self) -> httpx.AsyncClient:
        trust = ssl.create_default_context(cafile=self.control_plane.ca_file)
        headers = {"Authorization": f"Bearer {self.control_plane.token}"}
        return httpx.AsyncClient(
            base_url=self.control_plane.url, verify=trust, headers=headers, trust_env=False, timeout=30
        )

    async def refusal(self, client: httpx.AsyncClient) -> str | None:
        """Returns why a DittoServer is not admitted, None when it is; a dry run stores nothing."""
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
    """Runs one replica and collects its Events; its probe fails while `holding`, and lets somebody `interfere`."""

    certificate: SelfManagedCertificate
    webhook: WebhookServer
    events: list[Event]
    holding: bool = False
    interfere: Callable[[], object] = lambda: None

    async def wait_until_ready(self) -> None:
        await until_async(lambda: self.certificate.why_not_ready() is None)

    async def probe(self, name: str, authorities: bytes) -> str | None:
        await asyncio.to_thread(self.interfere)
        return "on hold" if self.holding else await self.webhook.why_not_trusted(name, authorities)

    async def wait_until_signed_by(self, authority: bytes) -> None:
        issuer = certificates(authority)
        await until_async(lambda: self.certificate.served is not None and (self.certificate.served.issuer,) == issuer)

    async def wait_for_event(self, reason: str) -> str:
        """Returns its message."""
        await until_async(lambda: reason in [event.reason for event in self.events])
        return next(event.message for event in self.events if event.reason == reason)


async def nothing(_needs: Needs) -> Facts:
    return Facts()


@asynccontextmanager
async def replica(site: Site, port: int, *, holding: bool = False) -> AsyncIterator[Replica]:
    events: list[Event] = []

    async with Cluster.connect(site.kubeconfig) as cluster, asyncio.TaskGroup() as group:
        certificate = SelfManagedCertificate(cluster, SECRET, site.name, PLAN, lambda _, event: events.append(event))
        served = WebhookServer(webhook(nothing), "127.0.0.1", port, certificate.context)
        await served.listen()
        replica = Replica(certificate, served, events, holding)

        group.create_task(served.serve())
        renewing = group.create_task(certificate.run(replica.probe, QUICK))
        try:
            yield replica
        finally:
            renewing.cancel()
            await served.drain(0)


@asynccontextmanager
async def replicas(site: Site, *, holding: bool = False) -> AsyncIterator[tuple[Replica, Replica]]:
    first, second = site.ports
    async with replica(site, first, holding=holding) as one, replica(site, second, holding=holding) as other:
        yield one, other


@dataclass
class Stream:
    """Asks for admissions one after another, and collects the refusals."""

    tried: int = 0
    refusals: list[str] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def at(cls, site: Site) -> AsyncIterator["Stream"]:
        stream = cls()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(stream._run(site))
            await stream.wait_for_more(20)
            yield stream
            await stream.wait_for_more(20)
            running.cancel()
        assert stream.refusals == []

    async def wait_for_more(self, further: int) -> None:
        enough = self.tried + further
        await until_async(lambda: self.tried >= enough)

    async def _run(self, site: Site) -> None:
        async with site.admin_client() as client:
            while self.tried < 20000:
                if refusal := await site.refusal(client):
                    self.refusals.append(refusal)
                self.tried += 1


async def until_in_thread(holds: Callable[[], bool]) -> None:
    """Waits as until_async does, but asks in a thread: the replicas run in this event loop."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - the answer takes its time
            await asyncio.sleep(0.1)


async def is_admitted(site: Site) -> bool:
    async with site.admin_client() as client:
        return await site.refusal(client) is None


async def test_two_new_replicas_agree_on_one_ca(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for one in both:
            await one.wait_until_ready()

        assert await is_admitted(site)
    content = site.content()

    assert content.keys() == {CA, CA_KEY, SERVING, SERVING_KEY}
    assert site.bundles() == {content[CA]}
    assert [event.reason for one in both for event in one.events].count("CertificatesIssued") == 1

    labels = site.secret()["metadata"]["labels"]

    assert labels == {"app.kubernetes.io/managed-by": "dittofs-operator"}


def issued(days_ago: float, serving: float = 1) -> dict[str, bytes]:
    authority = Authority.create("before", NOW - days_ago * DAY)
    pair = authority.issue_pair(PLAN.hosts, NOW - serving * DAY)
    return {CA: authority.pem, CA_KEY: authority.key_pem, SERVING: pair.certificate, SERVING_KEY: pair.key}


def foreign() -> dict[str, bytes]:
    authority = Authority.create("another", NOW)
    pair = authority.issue_pair(["example.com"], NOW)
    return {CA: authority.pem, SERVING: pair.certificate, SERVING_KEY: pair.key}


@pytest.mark.parametrize(
    "content",
    [{}, foreign(), issued(400, 400), {**issued(1), CA: b"nonsense"}, {**issued(1), SERVING_KEY: b""}],
    ids=["empty", "foreign", "expired", "corrupt", "half written"],
)
async def test_an_unusable_secret_heals(site: Site, content: Content) -> None:
    site.put_secret(content)
    site.register()
    async with replicas(site) as both:
        for one in both:
            await one.wait_until_ready()

        assert await is_admitted(site)
        assert "Warning" in {event.type for one in both for event in one.events}


@pytest.mark.parametrize("bundle", [b"", b"nonsense"])
async def test_a_blanked_or_changed_bundle_is_restored(site: Site, bundle: bytes) -> None:
    site.register()
    async with replicas(site) as both:
        for one in both:
            await one.wait_until_ready()
        before = site.bundles()
        site.put_bundle(bundle)
        await until_in_thread(lambda: site.bundles() == before)

        assert await is_admitted(site)


async def test_nothing_but_the_bundle_is_owned(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for one in both:
            await one.wait_until_ready()
    for configuration in site.configurations():
        [ours] = [entry for entry in configuration["metadata"]["managedFields"] if entry["manager"] == MANAGER]
        [webhook] = ours["fieldsV1"]["f:webhooks"].values()
        assert webhook == {".": {}, "f:clientConfig": {"f:caBundle": {}}, "f:name": {}}


async def test_a_rotation_fails_no_admission(site: Site) -> None:
    """The CA is past two thirds of its life; the change is held up until admissions are under way."""
    old = issued(250)
    site.put_secret(old)
    site.register()
    async with replicas(site, holding=True) as both:
        for one in both:
            await one.wait_until_ready()
            assert "on hold" in await one.wait_for_event("CertificateWaiting")

        assert NEXT in site.content()

        async with Stream.at(site) as stream:
            assert (await asyncio.to_thread(site.content))[CA] == old[CA]

            for one in both:
                one.holding = False
            await until_in_thread(lambda: site.content()[CA] != old[CA])
            for one in both:
                await one.wait_until_signed_by((await asyncio.to_thread(site.content))[CA])
            await stream.wait_for_more(50)
            new = await asyncio.to_thread(site.content)

            assert new[CA] != old[CA]
            assert set(certificates(new[FORMER])) == set(certificates(old[CA]))

            # A certificate alone is changed likewise.
            await asyncio.to_thread(
                site.kubectl, "patch", "secret", SECRET, "--type=merge", "-p", json.dumps({"data": {SERVING: ""}})
            )
            await until_in_thread(lambda: site.content()[SERVING] not in (b"", new[SERVING]))
            for one in both:
                await one.wait_until_signed_by((await asyncio.to_thread(site.content))[CA])
            await stream.wait_for_more(50)
    print(f"{stream.tried} admissions, {len(stream.refusals)} failed")


async def test_a_deleted_secret_fails_no_admission(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for one in both:
            await one.wait_until_ready()
        previous = site.content()[CA]
        async with Stream.at(site):
            await asyncio.to_thread(site.kubectl, "delete", "secret", SECRET)
            await until_in_thread(lambda: site.content().get(CA, previous) != previous)
            for one in both:
                await one.wait_until_signed_by((await asyncio.to_thread(site.content))[CA])


async def test_a_concurrent_change_is_not_overwritten(site: Site) -> None:
    """The probe runs between reading the Secret and writing it."""
    old = issued(250)
    site.put_secret(old)
    site.register()
    async with replica(site, site.ports[0]) as alone:
        alone.interfere = lambda: site.kubectl("annotate", "secret", SECRET, "changed=yes", "--overwrite")
        await until_in_thread(lambda: site.content()[CA] != old[CA])
    metadata = site.secret()["metadata"]

    assert metadata["annotations"] == {"changed": "yes"}


async def test_the_served_ca_stays_published_without_a_secret(site: Site) -> None:
    site.register()
    async with replica(site, site.ports[0]) as alone:
        await alone.wait_until_ready()
        before = site.bundles()
        site.kubectl("patch", "role", "certificate", "--type=json", "-p", '[{"op": "remove", "path": "/rules/0"}]')
        await until_in_thread(lambda: not site.may_create_secrets())
        site.kubectl("delete", "secret", SECRET)
        await until_async(lambda: "forbidden" in str(alone.certificate._problem))
        site.put_bundle(b"")
        await until_in_thread(lambda: site.bundles() == before)

    assert site.content() == {}


async def test_a_foreign_ca_stays_when_ours_is_added(site: Site) -> None:
    other = Authority.create("another", NOW)
    site.register(other.pem)
    async with replicas(site) as both:
        for one in both:
            await one.wait_until_ready()
        [bundle] = site.bundles()

        assert set(certificates(bundle)) == {other.certificate, *certificates(site.content()[CA])}


async def test_readiness_waits_for_webhook_configurations(site: Site) -> None:
    async with replica(site, site.ports[0]) as alone:
        await until_async(lambda: alone.certificate.served is not None)
        waits = "waiting for MutatingWebhookConfiguration and ValidatingWebhookConfiguration"

        assert waits in str(alone.certificate.why_not_ready())

        site.register()
        await alone.wait_until_ready()


async def test_bundles_of_cert_manager_are_left_alone(site: Site) -> None:
    bundle = Authority.create("cert-manager", NOW).pem
    site.register(bundle, **{"cert-manager.io/inject-ca-from": "somewhere/else"})
    async with replica(site, site.ports[0]) as alone:
        assert "cert-manager.io/inject-ca-from: its caBundle is left alone" in await alone.wait_for_event(
            "CertificateWaiting"
        )
        assert "trusts the certificate yet" in str(alone.certificate.why_not_ready())

    assert site.bundles() == {bundle}


async def test_missing_permissions_are_reported(site: Site) -> None:
    site.register()
    site.kubectl("delete", "rolebinding", "certificate")
    async with replica(site, site.ports[0]) as alone:
        await until_async(lambda: "cannot be watched: forbidden" in str(alone.certificate.why_not_ready()))
    site.kubectl("apply", "-f", "-", input=RIGHTS.format(name=site.name))
    site.kubectl("delete", "clusterrolebinding", site.name)
    async with replica(site, site.ports[0]) as alone:
        # The Secret's certificate does not wait for the configurations.
        await alone.wait_for_event("CertificateServed")


async def test_an_expired_certificate_is_not_ready(site: Site) -> None:
    site.register()
    async with replica(site, site.ports[0]) as alone:
        await alone.wait_until_ready()
        # For this one question: nothing is awaited that could put the time right.
        alone.certificate._cluster._server_time = NOW + 91 * DAY, monotonic()

        assert alone.certificate.why_not_ready() == "the certificate that is served has expired"


async def test_nothing_is_requested_while_nothing_changes(site: Site) -> None:
    site.register()
    async with replicas(site) as both:
        for one in both:
            await one.wait_until_ready()
        await asyncio.sleep(QUICK.settle + QUICK.pace)
        before = requests()
        # More than ten checks.
        await asyncio.sleep(10 * (QUICK.check + QUICK.pace))

        assert requests() == before


def requests() -> float:
    """Returns how many have ended; a watch goes on."""
    [family] = [metric for metric in REGISTRY.collect() if metric.name == "rest_client_requests"]
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


async def test_the_seconds_until_expiry_are_exported(site: Site) -> None:
    site.register()
    async with replica(site, site.ports[0]) as alone:
        await alone.wait_until_ready()
        seconds = [seconds_left(which) for which in ("ca", "serving")]

    assert seconds == [pytest.approx(days * 86400, abs=120) for days in (365, 90)]
