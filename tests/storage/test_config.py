from typing import Any

import pytest
import yaml

from app.storage.config import config_hash, config_yaml, consumed_digests
from app.storage.reading import read
from app.storage.rendering import Rendering
from app.storage.secret_references import consumed_references
from app.storage.spec import Spec
from tests.harness.server_table import jwt, s3, server

MANY = {"s3": {"accessKeyId": "a", "secretAccessKey": "b", "session": "c"}, "files-jwt-secret": {"jwt-secret": "d"}}


def spec(**fields: Any) -> Spec:
    return read(server(**fields)).server.spec


def config(**fields: Any) -> Any:
    return yaml.safe_load(config_yaml(spec(**fields)))


def test_the_file_has_every_section_that_is_read() -> None:
    file = config()

    assert file["logging"] == {"level": "INFO", "format": "json", "output": "stdout"}
    assert file["controlplane"]["host"] == "0.0.0.0"
    assert file["controlplane"]["port"] == 8080
    assert file["controlplane"]["jwt"]["refresh_token_duration"] == "168h"
    assert file["database"] == {"type": "sqlite", "sqlite": {"path": "/data/controlplane/controlplane.db"}}
    assert file["cache"] == {"path": "/data/cache", "size": "1GB"}
    assert file["metrics"] == {"enabled": False, "port": 9090, "host": "0.0.0.0"}
    assert file["blockstore"] == {"local": {"default_remote_cache_size": 10**9}}
    assert file["shutdown_timeout"] == "90s"


def test_what_the_spec_says_is_in_the_file() -> None:
    identity = {"jwt": {"secretRef": {"name": "j", "key": "k"}, "issuer": 'a: "b"\n'}, "admin": {"username": "root"}}

    file = config(identity=identity, controlPlane={"port": 9000}, metrics={"enabled": True}, cache={"size": "3GB"})

    assert file["controlplane"]["jwt"]["issuer"] == 'a: "b"\n'
    assert file["controlplane"]["port"] == 9000
    assert file["admin"] == {"username": "root"}
    assert file["metrics"]["enabled"] is True
    assert file["cache"]["size"] == "3GB"


@pytest.mark.parametrize("size", ["much", "", "0", "99999999999EB"])
def test_a_cache_size_that_no_server_can_read_is_left_out(size: str) -> None:
    file = config(cache={"size": size})

    assert "blockstore" not in file
    assert file["cache"]["size"] == size


def test_an_earlier_rendering_has_no_newer_keys() -> None:
    file = yaml.safe_load(config_yaml(spec(), Rendering.SINGLE_FAMILY))

    assert "blockstore" not in file
    assert "host" not in file["metrics"]


@pytest.mark.parametrize("name", ["a\U0001f600b", "é", 'a"\\b', "\ufeff\x7f\x85\u2028\x01", "yes", "1e3", ""])
def test_any_text_is_read_back_as_it_was(name: str) -> None:
    text = config_yaml(spec(identity={"admin": {"username": name}}))

    assert "\\ud83d" not in text
    assert yaml.safe_load(text)["admin"]["username"] == name


def test_postgres_has_placeholders_for_the_environment() -> None:
    database = config(database={"postgresSecretRef": {"name": "db", "key": "dsn"}})["database"]

    assert database["type"] == "postgres"
    assert set(database["postgres"]) == {"host", "port", "database", "user", "password", "sslmode"}


def test_postgres_without_a_secret_is_sqlite() -> None:
    assert config(database={"type": "postgres"})["database"]["type"] == "sqlite"


@pytest.mark.parametrize(
    "change",
    [{"nfsPort": 3049}, {"smb": {"enabled": True}}, {"s3": {"bucket": "b"}}, {"service": {"type": "NodePort"}}],
)
def test_what_only_services_see_is_not_in_it(change: dict[str, Any]) -> None:
    assert config_yaml(spec(**change)) == config_yaml(spec())


def test_every_key_of_the_s3_secret_is_consumed() -> None:
    references = consumed_references("files", spec(**s3()))

    assert list(consumed_digests(references, MANY)) == [
        ("jwt:jwt-secret", "d"),
        ("s3:accessKeyId", "a"),
        ("s3:secretAccessKey", "b"),
        ("s3:session", "c"),
    ]


def test_the_ca_of_s3_is_consumed_beside_the_keys() -> None:
    section = {**s3()["s3"], "caSecretRef": {"name": "s3", "key": "session"}}
    consumed = list(consumed_digests(consumed_references("files", spec(s3=section)), MANY))

    assert ("s3-ca:session", "c") in consumed
    assert [entry for entry in consumed if entry[0] != "s3-ca:session"] == list(
        consumed_digests(consumed_references("files", spec(**s3())), MANY)
    )


def test_of_other_secrets_only_the_named_key_is_consumed() -> None:
    references = consumed_references("files", spec(**jwt(name="j", key="k")))

    assert list(consumed_digests(references, {"j": {"k": "1", "other": "2"}})) == [("jwt:k", "1")]


def test_the_hash_changes_with_file_digests_and_labels() -> None:
    hashes = {
        config_hash("a", []),
        config_hash("b", []),
        config_hash("a", [("s3:k", "1")]),
        config_hash("a", [("s3:k", "2")]),
        config_hash("a", [("jwt:k", "1")]),
        config_hash("a", [("s3:k1", "")]),
        config_hash("as3:k", [("1", "")]),
    }

    assert len(hashes) == 7
