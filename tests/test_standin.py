"""Compares the stand-in for DittoFS with recorded answers of real servers, and shows what no recording can.

`recordings` has the answers of a server up to 0.8 (legacy) and of 0.29 (current), each played to an empty server whose
S3 endpoint accepts the key `first`.
"""

import json
import socket
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.storage.images import MIGRATION_PHRASES
from certs.authority import Authority
from tests.controlplane.program import Failed
from tests.harness.dittofs_standin import BUCKET, CURRENT, FOLDER, LEGACY, PASSWORD, S3, DittoFS
from tests.harness.free_ports import free_port
from tests.harness.loopback import NEEDS_IPV6
from tests.harness.recording import Player
from tests.harness.wait import until

KEYS = {"first": "first-secret"}
BOTH = pytest.mark.parametrize("name", [LEGACY, CURRENT])


@pytest.fixture
def legacy(standin: Path, s3: S3, tmp_path: Path) -> Iterator[DittoFS]:
    key = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "first-secret", "AWS_ENDPOINT_URL": s3.url}
    with DittoFS(standin, LEGACY, tmp_path / LEGACY, **key) as running:
        yield running


@pytest.fixture
def current(standin: Path, tmp_path: Path) -> Iterator[DittoFS]:
    with DittoFS(standin, CURRENT, tmp_path / CURRENT) as running:
        yield running


class Recorded:
    """The stand-in and its S3 endpoint as recordings were made with real ones."""

    def __init__(self, server: DittoFS, s3: S3) -> None:
        self.url = server.url
        self.restart = server.restart
        self.put_keys = s3.put_keys


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("Private CA", datetime.now(UTC))


@pytest.fixture
def private_s3(standin: Path, authority: Authority, tmp_path: Path) -> Iterator[S3]:
    endpoint = S3(standin, tmp_path / "private", **KEYS)
    endpoint.speak_tls(authority.issue_pair(["127.0.0.1"], datetime.now(UTC)))
    with endpoint:
        yield endpoint


@pytest.mark.parametrize("is_trusted", [True, False])
@BOTH
def test_an_endpoint_is_trusted_by_a_mounted_ca(
    standin: Path, authority: Authority, private_s3: S3, name: str, tmp_path: Path, *, is_trusted: bool
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    if is_trusted:
        (mount / "ca.crt").write_bytes(authority.pem)

    key = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "first-secret", "AWS_ENDPOINT_URL": private_s3.url}
    with DittoFS(standin, name, tmp_path / name, **key, SSL_CERT_DIR=str(mount)) as server:
        if name == LEGACY:
            create_legacy_share(server)
            answer = server.client.get(f"{server.url}/health/stores").json()["data"]["block_store"]
        else:
            body = {"name": "s3", "type": "s3", "config": remote(private_s3)}
            answer = server.api("POST", "/store/block/remote", body).json()["status"]

    signed = [request["status"] for request in private_s3.requests() if request["key_id"]]

    assert answer["status"] == ("healthy" if is_trusted else "unhealthy")
    assert signed == [200] * is_trusted
    if name == LEGACY and not is_trusted:
        assert "certificate signed by unknown authority" in answer["error"]


@BOTH
def test_it_answers_as_the_real_server_did(standin: Path, name: str, s3: S3, tmp_path: Path) -> None:
    generation = "legacy" if name == LEGACY else "current"
    steps: list[dict[str, Any]] = json.loads((FOLDER / "recordings" / f"{generation}.json").read_text())
    nobody = f"http://127.0.0.1:{free_port()}"
    values = {"S3": s3.url, "DATA": "/data", "PASSWORD": PASSWORD, "DEAD": nobody}

    with DittoFS(standin, name, tmp_path / name) as server:
        player = Player(Recorded(server, s3), values)
        for recorded, played in zip(steps, player.play(steps), strict=True):
            assert played == recorded


def config(**keys: Any) -> str:
    return json.dumps(keys)


def create_legacy_share(server: DittoFS, **payload: str) -> None:
    for path, body in (
        ("/metadata-stores", {"name": "meta", "type": "badger", "config": config(db_path="/data/metadata/meta")}),
        ("/payload-stores", {"name": "s3", "type": "s3", "config": config(bucket=BUCKET, **payload)}),
        ("/shares", {"name": "/media", "metadata_store_id": "meta", "payload_store_id": "s3"}),
    ):
        assert server.api("POST", path, body).status_code == 201


def remote(s3: S3, key: str = "first") -> str:
    return config(
        bucket=BUCKET,
        endpoint=s3.url,
        allow_private_endpoint=True,
        access_key_id=key,
        secret_access_key=f"{key}-secret",
    )


def create_current_share(server: DittoFS, s3: S3, metadata: str = "/data/metadata/meta") -> None:
    share = {"name": "/media", "metadata_store_id": "meta", "local_block_store": "cache", "remote_block_store": "s3"}
    for path, body in (
        ("/store/metadata", {"name": "meta", "type": "badger", "config": config(path=metadata)}),
        ("/store/block/local", {"name": "cache", "type": "fs", "config": config(path="/data/cache")}),
        ("/store/block/remote", {"name": "s3", "type": "s3", "config": remote(s3)}),
        ("/shares", {**share, "default_permission": "read-write"}),
    ):
        assert server.api("POST", path, body).status_code == 201


def test_the_environment_has_the_keys_of_the_legacy_server(legacy: DittoFS, s3: S3) -> None:
    create_legacy_share(legacy)

    assert legacy.write("media", "a", "text").json() == {
        "key_id": "first",
        "object": "media/a/chunk-0/block-0",
        "s3": 200,
    }

    s3.put_keys(second="second-secret")

    assert legacy.write("media", "b", "more").json()["s3"] == 403

    legacy.environ |= {"AWS_ACCESS_KEY_ID": "second", "AWS_SECRET_ACCESS_KEY": "second-secret"}
    legacy.restart()

    assert legacy.write("media", "b", "more").json()["key_id"] == "second"
    assert (legacy.read("media", "a").text, legacy.read("media", "b").text) == ("text", "more")


@BOTH
def test_only_the_legacy_server_knows_session_tokens(standin: Path, s3: S3, name: str, tmp_path: Path) -> None:
    s3.put_tokens(first="session")
    key = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "first-secret", "AWS_ENDPOINT_URL": s3.url}

    with DittoFS(standin, name, tmp_path / name, **key, AWS_SESSION_TOKEN="session") as server:
        if name == LEGACY:
            create_legacy_share(server)
            assert server.write("media", "a", "text").json()["s3"] == 200
        else:
            create_current_share(server, s3)
            assert server.write("media", "a", "text").json()["s3"] == 403


def test_the_first_store_serves_every_legacy_share(legacy: DittoFS) -> None:
    create_legacy_share(legacy)
    legacy.api("POST", "/payload-stores", {"name": "other", "type": "memory"})
    share = {"name": "/other", "metadata_store_id": "meta", "payload_store_id": "other"}

    assert legacy.api("POST", "/shares", share).status_code == 201
    assert legacy.write("other", "a", "text").json()["object"] == "other/a/chunk-0/block-0"


def test_a_current_share_keeps_its_key_until_the_restart(current: DittoFS, s3: S3) -> None:
    create_current_share(current, s3)

    assert current.write("media", "a", "text").json()["key_id"] == "first"

    s3.put_keys(**KEYS, second="second-secret")
    answer = current.api("PUT", "/store/block/remote/s3", {"config": remote(s3, "second")})

    assert answer.json()["status"]["status"] == "healthy"
    assert current.write("media", "b", "more").json()["key_id"] == "first"

    current.restart()
    s3.put_keys(second="second-secret")

    assert current.write("media", "b", "more").json()["key_id"] == "second"
    assert current.read("media", "a").text == "text"


def test_a_current_share_without_a_permission_refuses(current: DittoFS, s3: S3) -> None:
    create_current_share(current, s3)
    current.api("PUT", "/shares/media", {"default_permission": "none"})

    assert current.write("media", "a", "text").text.strip() == "NFS3ERR_ACCES"


def test_what_is_on_no_volume_is_lost(current: DittoFS, s3: S3) -> None:
    create_current_share(current, s3, metadata="/data/meta")
    current.write("media", "a", "text")
    current.stop()
    current.lose("/data/meta")
    current.start()

    assert current.read("media", "a").text.strip() == "NFS3ERR_NOENT"


@BOTH
def test_the_password_of_the_first_boot_stays(standin: Path, name: str, tmp_path: Path) -> None:
    with DittoFS(standin, name, tmp_path) as server:
        server.environ["DITTOFS_ADMIN_INITIAL_PASSWORD"] = "another-password"
        server.restart()

        assert server.login().status_code == 200
        assert server.login("another-password").status_code == 401
        assert server.report()["boots"] == 2


def test_only_the_legacy_server_logs_the_password(legacy: DittoFS, current: DittoFS) -> None:
    assert PASSWORD in legacy.log.read_text()
    assert PASSWORD not in current.log.read_text()


@BOTH
def test_it_ends_with_the_code_of_the_real_server(standin: Path, name: str, tmp_path: Path) -> None:
    with DittoFS(standin, name, tmp_path) as server:
        program = server.running
        server.stop()

    assert program.succeeded == (name == CURRENT)


@pytest.mark.parametrize("with_share", [True, False])
def test_a_newer_server_spoils_the_database(standin: Path, legacy: DittoFS, with_share: bool) -> None:
    if with_share:
        create_legacy_share(legacy)
    legacy.stop()
    newer = DittoFS(standin, CURRENT, legacy.folder)

    for _ in range(2):
        # The operator knows by these lines which image is needed.
        with pytest.raises(Failed, match="|".join(phrase.decode() for phrase in MIGRATION_PHRASES)):
            newer.start()
        newer.log.unlink()

    legacy.configure()
    legacy.start()

    assert legacy.login().status_code == 200
    assert legacy.client.get(f"{legacy.url}/health/ready").status_code == 503
    assert legacy.api("GET", "/payload-stores").json() == []


def test_only_the_current_server_warns_of_unknown_keys(standin: Path, tmp_path: Path) -> None:
    for name in (LEGACY, CURRENT):
        server = DittoFS(standin, name, tmp_path / name)
        server.configure(nonsense={"key": 1}, logging={"colour": "red"})
        with server:
            warned = [line for line in server.running.output() if "unknown keys" in line]

        assert len(warned) == (name == CURRENT)
        assert all("logging.colour" in line and "nonsense" in line for line in warned)


def test_the_current_server_demands_only_its_secret(standin: Path, tmp_path: Path) -> None:
    server = DittoFS(standin, CURRENT, tmp_path)
    del server.environ["DITTOFS_ADMIN_INITIAL_PASSWORD"]
    (tmp_path / "config.yaml").write_text(f"controlplane: {{host: 127.0.0.1, port: {server.port}}}\n")
    with server:
        assert server.login().status_code == 401

    server.environ["DITTOFS_CONTROLPLANE_SECRET"] = "short"
    with pytest.raises(Failed, match="DITTOFS_CONTROLPLANE_SECRET"):
        server.start()


def test_metrics_tell_version_and_outage_of_the_current_server(current: DittoFS, s3: S3) -> None:
    create_current_share(current, s3)
    url = f"http://127.0.0.1:{current.metrics_port}/metrics"

    assert 'dittofs_build_info{commit="none",version="v0.29.0"} 1' in current.client.get(url).text
    assert 'dittofs_remote_up{share="/media"} 1' in current.client.get(url).text

    s3.put_keys()

    assert 'dittofs_remote_up{share="/media"} 0' in current.client.get(url).text


def test_the_port_of_nfs_names_the_shares(legacy: DittoFS, current: DittoFS, s3: S3) -> None:
    create_legacy_share(legacy)
    create_current_share(current, s3)

    for server in (legacy, current):
        until(lambda server=server: server.exports() == ["/media"])  # type: ignore[misc]


def test_a_dead_endpoint_shows_in_the_health_of_the_legacy_server(legacy: DittoFS, s3: S3) -> None:
    create_legacy_share(legacy)
    s3.stop()
    answer = legacy.client.get(f"{legacy.url}/health/stores")

    assert answer.status_code == 503
    assert "connection refused" in answer.json()["data"]["block_store"]["error"]


def test_a_share_on_a_dead_endpoint_is_made_without_an_answer_in_time(current: DittoFS, s3: S3) -> None:
    create_current_share(current, s3)
    s3.stop()
    share = {"name": "/more", "metadata_store_id": "meta", "local_block_store": "cache", "remote_block_store": "s3"}
    with pytest.raises(TimeoutError):
        current.api("POST", "/shares", share, seconds=1)

    assert current.exports() == ["/media", "/more"]


@NEEDS_IPV6
@BOTH
def test_what_is_rendered_is_served_by_ipv6_too(standin: Path, tmp_path: Path, name: str) -> None:
    """Go takes 0.0.0.0 for every address of both families; the real servers answer at ::1 as well."""
    port = free_port()
    server = DittoFS(standin, name, tmp_path / name, STANDIN_NFS=f"0.0.0.0:{port}")
    server.configure(controlplane={"host": "0.0.0.0"})

    with server:
        assert server.client.get(f"http://[::1]:{server.port}/health").status_code == 200
        assert server.client.get(f"http://[::1]:{server.metrics_port}/metrics").status_code == 200
        socket.create_connection(("::1", port), timeout=1).close()


def call(connection: socket.socket, procedure: int, arguments: bytes = b"") -> bytes:
    """Calls the program that mounts shares, as an NFS client does first, and returns its answer."""
    nobody = struct.pack(">4I", 0, 0, 0, 0)
    message = struct.pack(">6I", 1, 0, 2, 100005, 3, procedure) + nobody + arguments
    connection.sendall(struct.pack(">I", 1 << 31 | len(message)) + message)

    with connection.makefile("rb") as answer:
        [size] = struct.unpack(">I", answer.read(4))
        return answer.read(size & 0x7FFFFFFF)[24:]


def test_nfs_clients_mount_shares_alone(current: DittoFS, s3: S3) -> None:
    create_current_share(current, s3)
    statuses = {}
    for path in (b"/media\0\0", b"/none\0\0\0", b"media\0\0\0"):
        with socket.create_connection(("127.0.0.1", current.nfs_port), timeout=60) as connection:
            answer = call(connection, 1, struct.pack(">I", len(path.rstrip(b"\0"))) + path)
            statuses[path.rstrip(b"\0")] = int.from_bytes(answer[:4])

    assert statuses == {b"/media": 0, b"/none": 2, b"media": 2}
