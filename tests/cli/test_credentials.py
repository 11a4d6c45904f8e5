import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.command_line import run
from tests.harness.server_table import s3, server

PASSWORD = "hunter2-hunter2"


def secret(name: str, **values: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "media"}, "data": data}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    manifests = [
        {**server(**s3()), "metadata": {"name": "files", "namespace": "media"}},
        secret("s3", accessKeyId="AKIASECRET"),
        secret("files-admin-bootstrap-credentials", username="admin", password=PASSWORD),
    ]
    path = tmp_path / "snapshot.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    return path


def test_the_secrets_are_listed_without_a_value(snapshot: Path) -> None:
    result = run("credentials", "files", "--snapshot", str(snapshot))
    heading, stored, jwt, admin = (line.split("   ") for line in result.stdout.splitlines())

    assert heading[0] == "PURPOSE"
    assert 'missing key "secretAccessKey"' in stored[-1]
    assert "not found" in jwt[-1]
    assert admin[-1].strip() == "found, generated"
    assert PASSWORD not in result.stdout + result.stderr
    assert "AKIASECRET" not in result.stdout + result.stderr


def test_the_password_is_shown_on_request(snapshot: Path) -> None:
    result = run("credentials", "files", "--snapshot", str(snapshot), "--show")

    assert result.stdout.splitlines()[-1] == f"user admin, password {PASSWORD}"
    assert "AKIASECRET" not in result.stdout


@pytest.mark.parametrize("password", [None, "line\nbreak", "\x1b[2Jhidden"])
def test_a_password_that_cannot_be_shown_is_not(snapshot: Path, password: str | None) -> None:
    values = {} if password is None else {"password": password}
    located = {**server(), "metadata": {"name": "files", "namespace": "media"}}
    snapshot.write_text(yaml.safe_dump_all([located, secret("files-admin-bootstrap-credentials", **values)]))
    result = run("credentials", "files", "--snapshot", str(snapshot), "--show")

    assert result.returncode == 2
    assert "hidden" not in result.stdout + result.stderr
    assert 'Secret "files-admin-bootstrap-credentials"' in result.stderr


def test_a_missing_server_has_no_credentials(snapshot: Path) -> None:
    result = run("credentials", "none", "--snapshot", str(snapshot))
    assert result.returncode == 2
    assert "there are: files" in result.stderr


def test_several_servers_have_columns_of_their_own(snapshot: Path) -> None:
    more = {**server(), "metadata": {"name": "other", "namespace": "media"}}
    snapshot.write_text(f"{snapshot.read_text()}\n---\n{yaml.safe_dump(more)}")
    lines = run("credentials", "--snapshot", str(snapshot)).stdout.splitlines()

    assert lines[0].split()[:3] == ["NAMESPACE", "SERVER", "PURPOSE"]
    assert {line.split()[1] for line in lines[1:]} == {"files", "other"}


def test_programs_get_the_password_on_request_only(snapshot: Path) -> None:
    command = ("credentials", "files", "--snapshot", str(snapshot), "-o", "json")
    hidden, shown = run(*command).stdout, run(*command, "--show").stdout

    assert PASSWORD not in hidden
    assert json.loads(hidden)[0]["findings"] == ['S3 credentials Secret "s3" missing key "secretAccessKey"']
    assert [item.get("password") for item in json.loads(shown)] == [None, None, PASSWORD]


def test_it_says_so_when_there_is_no_server(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    snapshot.write_text("kind: List\napiVersion: v1\nitems: []\n")

    assert run("credentials", "--snapshot", str(snapshot)).stdout == "no DittoServers found\n"
    assert run("credentials", "--snapshot", str(snapshot), "-o", "json").stdout == "[]\n"
