"""Puts a marker wherever a secret can be in a real cluster, and looks for it in the bytes of the report."""

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.kubelet import kubelet
from tests.harness.nodes import run_pod_on
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import server
from tests.harness.wait import until

# Each is in one place, so that a failure says which; none is a part of another one.
S3_KEY, S3_ID, DSN_PASSWORD, ADMIN_PASSWORD = "marker-s3-key/+", "marker-s3-id", "marker-dsn", "marker-admin"
SIDECAR_SECRET, LITERAL, ARGUMENT, ANNOTATION = "marker-sidecar", "marker-literal", "marker-argument", "marker-note"
MARKER = "marker-"


class Report:
    """The files of a report by their path in it."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            self.names = archive.namelist()
            self.files = {name.partition("/")[2]: archive.read(name).decode() for name in self.names}

    def holding(self, marker: str) -> list[str]:
        forms = (marker, base64.b64encode(marker.encode()).decode().rstrip("="))
        return [name for name, text in self.files.items() if any(form in text for form in forms)]


def write(control_plane: ControlPlane, path: Path, *arguments: str, kubeconfig: Path | None = None) -> Any:
    config = str(kubeconfig or control_plane.kubeconfig)
    return run("report", "--kubeconfig", config, "--file", str(path), *arguments)


def server_with_markers() -> Manifest:
    sidecar = {
        "name": "sidecar",
        "image": "sidecar",
        "args": [f"--login={ARGUMENT}"],
        "env": [
            {"name": "API_TOKEN", "value": LITERAL},
            {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "sidecar", "key": "login"}}},
        ],
    }
    spec = {
        "s3": {"bucket": "b", "credentialsSecretRef": {"secretName": "s3"}},
        "database": {"type": "postgres", "postgresSecretRef": {"name": "dsn", "key": "dsn"}},
        "identity": {"admin": {"passwordSecretRef": {"name": "admin", "key": "password"}}},
        "podTemplate": {
            "metadata": {"annotations": {"example.com/note": ANNOTATION}},
            "spec": {"containers": [sidecar]},
        },
    }
    manifest = server(**spec)
    manifest["metadata"]["annotations"] = {"example.com/note": ANNOTATION}
    return manifest


def secret(name: str, **values: str) -> Manifest:
    """With `kubectl apply`, stringData is left in an annotation as well."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


LOG = f"""\
2026-02-01T12:00:00Z connecting to s3 with {S3_ID}:{S3_KEY}
{json.dumps({"msg": json.dumps({"dsn": f"postgres://dittofs:{DSN_PASSWORD}@db/files"})})}
unlabelled {ADMIN_PASSWORD} and {base64.b64encode(ADMIN_PASSWORD.encode()).decode()}
sidecar said {SIDECAR_SECRET} to {LITERAL}
the password of another one is: marker-unknown
serves \x1b[2J NFS
"""


@pytest.fixture
def marked(operated: OperatorNamespace) -> OperatorNamespace:
    """Runs a server with a marker in every place."""
    operated.apply(
        secret("s3", accessKeyId=S3_ID, secretAccessKey=S3_KEY, endpoint="https://s3.example.com"),
        secret("dsn", dsn=f"postgres://dittofs:{DSN_PASSWORD}@db.example.com/files"),
        secret("admin", password=ADMIN_PASSWORD),
        secret("sidecar", login=SIDECAR_SECRET),
        server_with_markers(),
    )
    until(lambda: bool(operated.get("pod", "files-0")))
    return operated


def log_names(namespace: str) -> dict[str, str]:
    return {f"{namespace}/files-0/{container}": LOG for container in ("dittofs", "sidecar")}


def test_no_marker_is_in_the_report(marked: OperatorNamespace, tmp_path: Path) -> None:
    namespace, path = marked.namespace, tmp_path / "ticket.zip"
    with kubelet(marked.control_plane, namespace, current_logs=log_names(namespace)):
        run_pod_on(marked, namespace)
        result = write(marked.control_plane, path, "-n", namespace)
    assert result.returncode == 0, result.stderr
    report = Report(path)

    folder = f"servers/{namespace}/files"
    assert [name for name in report.names if not name.startswith("ticket/")] == []
    assert {
        f"{folder}/{name}"
        for name in ("screen.txt", "dittoserver.yaml", "statefulset.yaml", "pod.yaml", "configmap.yaml", "claims.yaml")
    } <= set(report.files)
    assert {f"{folder}/logs/files-0-dittofs.log", f"{folder}/logs/files-0-sidecar.log"} <= set(report.files)
    assert "serves  [2J NFS" in report.files[f"{folder}/logs/files-0-dittofs.log"]

    assert "port: 5432" in report.files[f"{folder}/configmap.yaml"]
    assert "app: dittofs-server" in report.files[f"{folder}/pod.yaml"]

    # The Secrets of these names exist, and that is all that anybody learns.
    assert "secretAccessKey" in report.files[f"{folder}/secrets.yaml"]
    assert {marker: report.holding(marker) for marker in markers()} == {marker: [] for marker in markers()}
    assert report.holding(MARKER) == []


def markers() -> tuple[str, ...]:
    known = (S3_KEY, S3_ID, DSN_PASSWORD, ADMIN_PASSWORD, SIDECAR_SECRET)
    return (*known, LITERAL, ARGUMENT, ANNOTATION, "marker-unknown")


def test_the_bytes_of_the_zip_hold_no_marker_either(marked: OperatorNamespace, tmp_path: Path) -> None:
    path = tmp_path / "ticket.zip"
    assert write(marked.control_plane, path, "-n", marked.namespace).returncode == 0

    assert MARKER.encode() not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def test_who_may_not_read_secrets_gets_no_logs(marked: OperatorNamespace, tmp_path: Path) -> None:
    namespace, path = marked.namespace, tmp_path / "ticket.zip"
    marked.kubectl("create", "serviceaccount", "viewer")
    marked.kubectl("create", "rolebinding", "viewer", "--clusterrole=view", f"--serviceaccount={namespace}:viewer")
    marked.kubectl("create", "role", "servers", "--verb=list", "--resource=dittoservers.dittofs.dittofs.com")
    marked.kubectl("create", "rolebinding", "servers", "--role=servers", f"--serviceaccount={namespace}:viewer")
    kubeconfig = marked.control_plane.kubeconfig_for("viewer", namespace)

    with kubelet(marked.control_plane, namespace, current_logs=log_names(namespace)):
        run_pod_on(marked, namespace)
        result = write(marked.control_plane, path, kubeconfig=kubeconfig)
    assert result.returncode == 0, result.stderr
    report = Report(path)

    assert not [name for name in report.files if "/logs/" in name]
    assert f"the logs of {namespace}/files-0 are left out" in report.files["index.txt"]
    assert "Secret s3: forbidden" in report.files["index.txt"]
    assert report.holding(MARKER) == []


def test_two_reports_of_the_same_have_the_same_order(marked: OperatorNamespace, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        assert write(marked.control_plane, tmp_path / name, "files", "-n", marked.namespace).returncode == 0
    first, second = Report(tmp_path / "a.zip"), Report(tmp_path / "b.zip")

    assert list(first.files) == list(second.files) == sorted(first.files)
    assert "What is not in it" in first.files["README.txt"]
    assert "doctor.json" in first.files


def test_progress_is_on_standard_error(operated: OperatorNamespace, tmp_path: Path) -> None:
    operated.apply(server())
    result = write(operated.control_plane, tmp_path / "a.zip", "-n", operated.namespace)

    assert result.stdout == ""
    assert f"collecting {operated.namespace}/files (1 of 1)" in result.stderr
    assert result.stderr.splitlines()[-1] == f"wrote {tmp_path / 'a.zip'}: look through it before you pass it on"


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("mine")
    result = run("report", "--file", str(path))

    assert (result.returncode, path.read_text()) == (2, "mine")
    assert "it exists, and is not overwritten" in result.stderr


def test_a_wrong_name_writes_nothing(operated: OperatorNamespace, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    result = write(operated.control_plane, path, "absent", "-n", operated.namespace)

    assert (result.returncode, path.exists()) == (2, False)
    assert "no DittoServer absent" in result.stderr


def test_a_folder_that_is_missing_is_told(operated: OperatorNamespace, tmp_path: Path) -> None:
    result = write(operated.control_plane, tmp_path / "absent" / "a.zip", "-n", operated.namespace)

    assert result.returncode == 2
    assert "it cannot be written: No such file or directory" in result.stderr
