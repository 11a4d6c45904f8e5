"""What the operator maintains inside servers that really answer, and which restarts that takes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.cluster.errors import ClusterError
from app.cluster.informers import Informers
from app.cluster.reader import SECRETS
from app.dittofs.client import ServerClient
from app.reconcile.provisioner import MAX_CONCURRENT, MAX_IN_NAMESPACE, Provisioner
from app.reconcile.writer import Writer
from app.storage.maintenance import Provisioned, Provisioning
from app.storage.remote_store import ADOPT_STORE, Bucket, RemoteStore
from app.storage.secret_references import PASSWORD_PATH, S3_PATH, ReferencedKey, SecretReference
from app.storage.server_health import Family
from app.storage.unstructured import ObjectKey
from certs.authority import Authority
from tests.controlplane.cluster import ControlPlane
from tests.harness.dittofs_standin import BUCKET, CURRENT, LEGACY, S3, STANDIN, DittoFS
from tests.harness.raw_server import Received, Reply, connect_to, raw_server, reply
from tests.harness.reconciler_namespace import connect, run_informers
from tests.harness.served_site import ADMIN, ServedSite, served_site
from tests.harness.wait import run_beside, until_async

pytestmark = pytest.mark.anyio

OLD, NEW, WRONG = ("old", "old-secret-MARKER"), ("new", "new-secret-MARKER"), ("new", "wrong-secret-MARKER")
MARKERS = ("MARKER", "the-password-of-admin")
BUCKET_OF_SPEC = {"credentialsSecretRef": {"secretName": "s3"}, "bucket": BUCKET, "region": "us-east-1"}
STORAGE = {"metadataSize": "10Gi", "contentSize": "10Gi", "storageClassName": ""}

Open = Callable[[str], AbstractAsyncContextManager[ServedSite]]


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> Path:
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return STANDIN.built(os.environ)


@pytest.fixture
async def s3(programs: Path, tmp_path: Path) -> AsyncIterator[S3]:
    endpoint = S3(programs, tmp_path / "s3", **dict([OLD]))
    await asyncio.to_thread(endpoint.start)
    yield endpoint
    await asyncio.to_thread(endpoint.stop)


@pytest.fixture
def open_site(control_plane: ControlPlane, crd: None, namespace: str, programs: Path, tmp_path: Path) -> Open:
    def open_(name: str) -> AbstractAsyncContextManager[ServedSite]:
        return served_site(control_plane, namespace, DittoFS(programs, name, tmp_path / name), tmp_path)

    return open_


async def put_keys(site: ServedSite, s3: S3, keys: tuple[str, str]) -> None:
    await site.put_secret("s3", accessKeyId=keys[0], secretAccessKey=keys[1], endpoint=s3.url)


async def accept(s3: S3, *keys: tuple[str, str]) -> None:
    """Makes these the only keys that S3 accepts."""
    await asyncio.to_thread(partial(s3.put_keys, **dict(keys)))


async def write(site: ServedSite, share: str = "/media") -> tuple[int, Any]:
    """Writes through a share; returns the status, and which key S3 was asked with."""
    answer = await asyncio.to_thread(site.dittofs.write, share, "file", f"content {site.starts}")
    return answer.status_code, answer.json() if answer.is_success else answer.text


def stayed_secret(site: ServedSite, log: str) -> bool:
    texts = (json.dumps(site.status), repr(site.events), log)
    return not any(marker in text for marker in MARKERS for text in texts)


async def settle(site: ServedSite) -> None:
    """Waits for what would come of it if something were about to happen."""
    await asyncio.sleep(1.5)


async def test_one_manifest_leads_to_a_share_that_can_be_written_to(
    open_site: Open, s3: S3, log_lines: list[dict[str, Any]]
) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(
            s3=BUCKET_OF_SPEC,
            storage=STORAGE,
            shares=[{"name": "media", "squash": "all_to_admin"}, {"name": "scratch", "store": "local"}],
        )

        await site.until(lambda: site.shares() == {"/media": "Ready", "/scratch": "Ready"})
        status, answer = await write(site)

        assert status in (200, 201), answer
        assert sorted(site.dittofs.exports()) == ["/media", "/scratch"]
        assert site.status["remoteStore"]["name"] == "dittofs-operator"
        await settle(site)
        assert site.starts == 1
        assert stayed_secret(site, str(log_lines))


async def test_a_rotation_restarts_once_after_the_keys_are_accepted(
    open_site: Open, s3: S3, log_lines: list[dict[str, Any]]
) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC, storage=STORAGE, shares=[{"name": "media"}])
        await site.until(lambda: site.shares() == {"/media": "Ready"})

        await accept(s3, OLD, NEW)
        await put_keys(site, s3, NEW)
        await site.until(lambda: site.starts == 2)
        await site.until_condition("CredentialsReady", "True", "Found")
        await accept(s3, NEW)
        status, answer = await write(site)

        assert status in (200, 201), answer
        await settle(site)
        assert site.starts == 2
        assert stayed_secret(site, str(log_lines))


async def test_rejected_keys_restart_nothing_until_they_are_accepted(
    open_site: Open, s3: S3, log_lines: list[dict[str, Any]]
) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC, storage=STORAGE, shares=[{"name": "media"}])
        await site.until(lambda: site.shares() == {"/media": "Ready"})

        await put_keys(site, s3, WRONG)
        await site.until_condition("CredentialsReady", "False", "CredentialsRejected")
        await settle(site)
        assert site.starts == 1
        assert (await write(site))[0] in (200, 201)

        # Nothing in the cluster says that S3 accepts them now.
        await accept(s3, OLD, WRONG)
        await site.until_condition("CredentialsReady", "True", "Found")
        await site.until(lambda: site.starts == 2)
        await settle(site)
        assert site.starts == 2
        assert stayed_secret(site, str(log_lines))


async def test_other_changes_are_not_held_by_rejected_keys(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC)
        await site.until(lambda: bool(site.status.get("remoteStore", {}).get("configHash")))
        await put_keys(site, s3, WRONG)
        await site.until_condition("CredentialsReady", "False", "CredentialsRejected")

        await site.change(metrics={"enabled": True})

        await site.until(lambda: site.starts == 2)


async def test_without_a_bucket_a_rotation_restarts_nothing(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3={"credentialsSecretRef": {"secretName": "s3"}})
        await site.until_condition("CredentialsReady", "True", "KeptByServer")
        await settle(site)

        await put_keys(site, s3, NEW)
        await settle(site)

        assert site.starts == 1
        assert site.condition("CredentialsReady") == ("True", "KeptByServer")
        assert site.condition("Reconciling") == ("False", "Reconciled")
        assert not [line for line in site.proxy.requests if "/api/" in line]


@pytest.mark.parametrize("name", [LEGACY, CURRENT])
async def test_the_ca_of_an_endpoint_is_rotated_without_losing_it(
    open_site: Open, programs: Path, tmp_path: Path, name: str
) -> None:
    now = datetime.now(UTC)
    first, second = Authority.create("First CA", now), Authority.create("Second CA", now)
    s3 = S3(programs, tmp_path / "s3", **dict([OLD]))
    s3.speak_tls(first.issue_pair(["127.0.0.1"], now))

    async with open_site(name) as site, site.operated():
        await asyncio.to_thread(s3.start)
        try:
            await put_keys(site, s3, OLD)
            await site.put_secret("ca", **{"ca.crt": first.pem.decode()})
            spec = {**BUCKET_OF_SPEC, "caSecretRef": {"name": "ca"}}
            await site.create(s3=spec, storage=STORAGE, shares=[{"name": "media"}])
            await site.until(lambda: site.shares() == {"/media": "Ready"})
            assert (await write(site))[1]["s3"] == 200

            await site.put_secret("ca", **{"ca.crt": (first.pem + second.pem).decode()})
            await site.until(lambda: site.starts == 2)
            assert (await write(site))[1]["s3"] == 200

            await asyncio.to_thread(s3.stop)
            s3.speak_tls(second.issue_pair(["127.0.0.1"], now))
            await asyncio.to_thread(s3.start)

            assert (await write(site))[1]["s3"] == 200
            await settle(site)
            assert site.starts == 2
            assert site.condition("CredentialsReady") == ("True", "Found")
        finally:
            await asyncio.to_thread(s3.stop)


async def test_a_service_account_is_refused_by_a_server_that_only_takes_keys(open_site: Open) -> None:
    async with open_site(CURRENT) as site, site.operated():
        s3 = {"bucket": BUCKET, "serviceAccountName": "default"}
        await site.create(s3=s3, storage=STORAGE, shares=[{"name": "media"}])

        await site.until_condition("CredentialsReady", "False", "WorkloadIdentityUnsupported")
        await site.until(lambda: site.shares() == {"/media": "Pending"})
        assert site.condition("Stalled") == ("True", "WorkloadIdentityUnsupported")


async def test_up_to_08_a_rotation_restarts_at_once(open_site: Open, s3: S3) -> None:
    async with open_site(LEGACY) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC, storage=STORAGE, shares=[{"name": "media"}])
        await site.until(lambda: site.shares() == {"/media": "Ready"})
        assert (await write(site))[0] in (200, 201)

        await accept(s3, NEW)
        await put_keys(site, s3, NEW)
        await site.until(lambda: site.starts == 2)
        await site.until(lambda: site.shares() == {"/media": "Ready"})

        assert (await write(site))[0] in (200, 201)
        await settle(site)
        assert site.starts == 2
        assert "remoteStore" not in site.status


async def test_a_server_that_is_unreachable_holds_nothing_else(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC)
        await site.until(lambda: bool(site.status.get("remoteStore", {}).get("configHash")))

        def refuse_logins(line: str) -> None:
            site.proxy.is_open = "/api/" not in line

        site.proxy.before = refuse_logins
        await put_keys(site, s3, NEW)
        await site.until_condition("CredentialsReady", "Unknown", "ServerUnreachable")
        assert site.condition("Ready")[0] == "True"
        await settle(site)
        assert site.starts == 1

        await accept(s3, NEW)
        site.proxy.before = lambda _: setattr(site.proxy, "is_open", True)
        await site.until(lambda: site.starts == 2)
        await site.until_condition("CredentialsReady", "True", "Found")


async def test_another_region_restarts_the_pod_once(open_site: Open, s3: S3) -> None:
    """It is in the pod template as well as in the store, which is changed before."""
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC)
        await site.until(lambda: bool(site.status.get("remoteStore", {}).get("configHash")))

        await site.change(s3={**BUCKET_OF_SPEC, "region": "eu-west-1"})

        await site.until(lambda: site.starts == 2)
        await settle(site)
        assert site.starts == 2


async def test_the_store_of_a_person_is_adopted_on_request(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site:
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC, replicas=1)
        # Somebody is faster than the operator, which does not know the server yet.
        site.proxy.is_open = False
        async with site.operated():
            await site.until(lambda: site.starts == 1)
            keys = {"access_key_id": OLD[0], "secret_access_key": OLD[1], "endpoint": s3.url}
            config = json.dumps({"bucket": BUCKET, "prefix": "p/", "allow_private_endpoint": True, **keys})
            body = {"name": "by-hand", "type": "s3", "config": config}
            await asyncio.to_thread(site.dittofs.api, "POST", "/store/block/remote", body)

            site.proxy.is_open = True
            await site.until_condition("CredentialsReady", "True", "KeptByServer")
            stores = await asyncio.to_thread(site.dittofs.api, "GET", "/store/block/remote")
            assert [store["name"] for store in stores.json()] == ["by-hand"]

            await accept(s3, OLD, NEW)
            await put_keys(site, s3, NEW)
            await settle(site)
            assert site.starts == 1

            await site.change({ADOPT_STORE: "by-hand"})
            await site.until_condition("CredentialsReady", "True", "Found")
            await site.until(lambda: site.starts == 2)
            stores = await asyncio.to_thread(site.dittofs.api, "GET", "/store/block/remote")
            assert [(store["name"], store["config"]["prefix"]) for store in stores.json()] == [("by-hand", "p/")]
            assert stores.json()[0]["config"]["access_key_id"] == NEW[0]
            assert site.status["remoteStore"]["name"] == "by-hand"


async def test_an_end_between_the_push_and_the_status_is_made_up_for(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site:
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC)
        async with site.operated():
            await site.until(lambda: bool(site.status.get("remoteStore", {}).get("configHash")))
        await accept(s3, OLD, NEW)

        pushed = asyncio.Event()
        site.proxy.before = lambda line: pushed.set() if line.startswith("PUT ") else None
        await put_keys(site, s3, NEW)
        async with site.operated():
            await asyncio.wait_for(pushed.wait(), 30)

        async with site.operated():
            await site.until(lambda: site.starts == 2)
            await site.until_condition("Reconciling", "False", "Reconciled")
            await settle(site)
            assert site.starts == 2


async def test_a_password_that_only_counted_once_is_named(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC)
        await site.until(lambda: bool(site.status.get("remoteStore", {}).get("configHash")))

        await site.put_secret(ADMIN, password="another-password")

        await site.until_condition("CredentialsReady", "False", "AdminLoginFailed")
        assert ADMIN in str(site.status)
        assert "another-password" not in str(site.status)


async def test_a_share_that_leaves_the_spec_is_kept(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site, site.operated():
        await site.create(storage=STORAGE, shares=[{"name": "a"}, {"name": "b"}])
        await site.until(lambda: site.shares() == {"/a": "Ready", "/b": "Ready"})

        await site.change(shares=[{"name": "a"}])
        await site.until(lambda: site.shares() == {"/a": "Ready", "/b": "Retained"})
        assert sorted(site.dittofs.exports()) == ["/a", "/b"]
        # The Event is recorded after the status has been written.
        await site.until(lambda: "ShareRetained" in [event.reason for event in site.events])

        await asyncio.to_thread(site.dittofs.api, "DELETE", "/shares/b")
        await site.change(shares=[{"name": "a", "defaultPermission": "read"}])
        await site.until(lambda: site.shares() == {"/a": "Ready"})
        await settle(site)
        assert site.starts == 1
        assert [event.reason for event in site.events].count("ShareRetained") == 1


async def test_a_settled_server_is_asked_for_nothing(open_site: Open, s3: S3) -> None:
    async with open_site(CURRENT) as site:
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC, storage=STORAGE, shares=[{"name": "media"}])
        async with site.operated():
            await site.until(lambda: site.shares() == {"/media": "Ready"})
            await settle(site)

        version = (await site.live())["metadata"]["resourceVersion"]
        site.proxy.requests.clear()
        async with site.operated():
            await site.until(lambda: "GET /api/v1/shares" in site.proxy.requests)
            await settle(site)

        assert not [line for line in site.proxy.requests if line.split()[0] in ("PUT", "PATCH", "DELETE")]
        assert [line for line in site.proxy.requests if line.startswith("POST")] == ["POST /api/v1/auth/login"]
        assert (await site.live())["metadata"]["resourceVersion"] == version
        assert site.starts == 1


async def test_an_error_of_ours_with_one_server_ends_nothing(
    open_site: Open, s3: S3, monkeypatch: pytest.MonkeyPatch, log_lines: list[dict[str, Any]]
) -> None:
    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise KeyError

    async with open_site(CURRENT) as site, site.operated():
        monkeypatch.setattr("app.reconcile.provisioner.maintain", fail)
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC)

        await site.until(lambda: bool(site.status.get("remoteStore", {}).get("configHash")))
        assert "stores and shares not maintained" in str(log_lines)


async def test_a_status_that_cannot_be_written_holds_no_change(
    open_site: Open, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change waits for new keys to be pushed, which must not wait for the status."""

    async def fail(*_: object) -> None:
        raise ClusterError("no")

    async with open_site(CURRENT) as site, site.operated():
        await put_keys(site, s3, OLD)
        await site.create(s3=BUCKET_OF_SPEC)
        await site.until(lambda: bool(site.status.get("remoteStore", {}).get("configHash")))
        await accept(s3, OLD, NEW)

        monkeypatch.setattr(Writer, "write_status", fail)
        await site.change(nfsPort=2050)
        await settle(site)
        await put_keys(site, s3, NEW)

        await site.until(lambda: site.starts == 2)


class Room:
    """A namespace with the Secrets that servers need, and one place that answers for all servers but those in `bugs`.

    `asked` has the requests with the address of the server.
    """

    def __init__(self, informers: Informers, namespace: str, socket: Path) -> None:
        self.namespace = namespace
        self.asked: list[tuple[str, str]] = []
        self.bugs: set[str] = set()
        self.answer: Callable[[Received], Reply] = lambda _: reply(401, {"detail": "Invalid username or password"})
        self._connect = connect_to(socket)
        self.provisioner = Provisioner(informers, ServerClient(self.connect), lambda: True, (60, 60))

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host in self.bugs:
            raise ZeroDivisionError("MAR" + "KER")
        return await self._connect(host, port)

    def respond(self, request: Received) -> Reply:
        self.asked.append((request.headers["host"].partition(":")[0], request.line))
        return self.answer(request)

    def want(self, name: str, address: str, store: str = "a", **changes: Any) -> Provisioning:
        """Asks for a bucket whose record has this as its hash; the status always says that it has the hash `a`."""
        bucket = Bucket("media", "eu-west-1", "s3", store * 64)
        keys = SecretReference(S3_PATH, "S3", "s3", tuple(ReferencedKey(name, {}) for name in ("id", "key", "url")))
        password = SecretReference(PASSWORD_PATH, "admin", ADMIN, (ReferencedKey("password", {}),))
        about = {"uid": name, "pod": name, "started_at": "", "url": f"http://{address}:8080", "family": Family.CURRENT}
        known = RemoteStore("dittofs-operator", "a" * 64)
        fields = {"password": password, "s3": keys, "bucket": bucket, "shares": (), "secret_digests": ()}
        wanted = Provisioning(**{**about, **fields, "known": known, **changes})
        self.provisioner.want(self.key(name), wanted)
        return wanted

    def key(self, name: str) -> ObjectKey:
        return self.namespace, name

    async def until_done(self, name: str, wanted: Provisioning) -> Provisioned:
        result = self.provisioner.result
        await until_async(lambda: getattr(result(self.key(name)), "provisioning", None) == wanted, 20)
        provisioned = result(self.key(name))
        assert provisioned is not None
        return provisioned


@pytest.fixture
async def room(control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path) -> AsyncIterator[Room]:
    async with connect(control_plane) as cluster, run_informers(cluster, namespace) as informers:
        for name, data in ((ADMIN, {"password": "UEFTU1dPUkQ="}), ("s3", {"id": "aWQ=", "key": "U0VDUkVULUtFWQ=="})):
            metadata = {"name": name, "namespace": namespace}
            await cluster.apply(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

        room = Room(informers, namespace, tmp_path / "r")
        async with (
            raw_server(room.respond, tmp_path / "r"),
            run_beside(room.provisioner.run(), asyncio.sleep(0), 10),
        ):
            yield room


async def test_a_bug_with_one_server_stops_no_other(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.bugs.add("10.0.0.1")
    hit, other = room.want("hit", "10.0.0.1"), room.want("other", "10.0.0.2")

    failed, answered = await room.until_done("hit", hit), await room.until_done("other", other)

    assert failed.problem
    assert (failed.problem.reason, failed.is_complete) == ("ServerUnreachable", False)
    assert answered.problem
    assert answered.problem.reason == "AdminLoginFailed"
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "ZeroDivisionError" in str(vars(record))
    # Nobody knows what the message of a bug has in it.
    assert "MARKER" not in str(vars(record))


async def test_a_server_that_ends_while_its_secret_changes_is_left_alone(room: Room) -> None:
    room.want("ends", "10.0.0.1", secret_digests=(("s3", "key", "of an earlier value"),))
    await asyncio.sleep(0)
    room.provisioner.want(room.key("ends"), None)
    await asyncio.sleep(1.5)

    await room.until_done("other", room.want("other", "10.0.0.2"))

    assert {host for host, _ in room.asked} == {"10.0.0.2"}


async def test_keys_that_change_back_are_pushed_again(room: Room) -> None:
    """Before the status says that the server has had others meanwhile."""
    record = {
        "name": "dittofs-operator",
        "type": "s3",
        "config": {"bucket": "media", "region": "eu-west-1"},
        "status": {"status": "healthy"},
    }

    def answer(request: Received) -> Reply:
        if request.line.startswith("PUT"):
            return reply(200, record)
        return reply(200, {"access_token": "t"} if request.line.startswith("POST") else [record])

    room.answer = answer
    await room.until_done("files", room.want("files", "10.0.0.1", "a"))
    assert not [line for _, line in room.asked if line.startswith("PUT")]

    await room.until_done("files", room.want("files", "10.0.0.1", "b"))
    await room.until_done("files", room.want("files", "10.0.0.1", "a"))
    assert len([line for _, line in room.asked if line.startswith("PUT")]) == 2

    await room.until_done("files", room.want("files", "10.0.0.1", "a", pod="next"))
    assert len([line for _, line in room.asked if line.startswith("PUT")]) == 2


async def test_one_namespace_does_not_keep_the_others_waiting(room: Room) -> None:
    async def keep_silent(_: Received) -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    room.answer = keep_silent
    for number in range(20):
        room.want(f"slow-{number}", "10.0.0.1")
    await until_async(lambda: len(room.asked) >= MAX_IN_NAMESPACE, 20)
    await asyncio.sleep(0.5)

    assert len(room.asked) == MAX_IN_NAMESPACE
    assert MAX_IN_NAMESPACE < MAX_CONCURRENT


@pytest.mark.parametrize("secret", ["PASSWORD", "SECRET-KEY"])
@pytest.mark.parametrize("place", ["error", "check", "name"])
async def test_what_a_server_repeats_of_its_secrets_goes_nowhere(
    room: Room, log_lines: list[dict[str, Any]], place: str, secret: str
) -> None:
    check = {"status": "unhealthy", "message": f"{secret} is wrong"}
    store = {"name": "dittofs-operator", "type": "s3", "config": {"bucket": "media"}, "status": check}
    of_a_person = {**store, "name": secret}

    def answer(request: Received) -> Reply:
        if request.line.startswith("POST"):
            return reply(200, {"access_token": "t"})
        if place == "error":
            return reply(500, {"detail": f"{secret} is wrong"})
        return reply(200, store if request.line.startswith("PUT") else [of_a_person if place == "name" else store])

    room.answer = answer
    result = await room.until_done("files", room.want("files", "10.0.0.1", "b"))

    assert result.store.problem or result.store.kept
    assert secret not in f"{result!r}{log_lines}"


async def test_a_server_that_is_paused_is_changed_no_more(room: Room) -> None:
    """Even in the middle of an attempt: the annotation may come between any two requests."""

    def answer(request: Received) -> Reply:
        if request.line.startswith("POST"):
            return reply(200, {"access_token": "t"})
        room.provisioner.want(room.key("paused"), None)
        return reply(200, [])

    room.answer = answer
    room.want("paused", "10.0.0.1")
    await until_async(lambda: len(room.asked) >= 2, 20)

    await asyncio.sleep(0.5)

    assert [line.split()[0] for _, line in room.asked] == ["POST", "GET"]
    assert room.provisioner.result(room.key("paused")) is None
