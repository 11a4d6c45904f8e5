from pathlib import Path

import yaml

from tests.harness.command_line import run
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import server, storage


def test_render_prints_all_objects_but_secrets() -> None:
    rendered = list(yaml.safe_load_all(run("render", "manifests/samples").stdout))
    assert {manifest["kind"] for manifest in rendered} == {"ConfigMap", "Service", "StatefulSet"}
    assert "namespace" not in rendered[0]["metadata"]


def test_kubectl_diff_of_rendered_objects_is_empty(operated: OperatorNamespace, tmp_path: Path) -> None:
    manifest = tmp_path / "server.yaml"
    manifest.write_text(
        yaml.safe_dump(server(**storage(cacheSize="1024Mi", contentSize="1Ti"), resources={"limits": {"cpu": 2}}))
    )
    operated.kubectl("apply", "-f", str(manifest))
    operated.wait_until_observed("files")
    rendered = run("render", str(manifest)).stdout

    assert operated.kubectl("diff", "-f", "-", input=rendered) == ""


def test_render_adds_what_the_settings_add() -> None:
    settings = ("--object-label=team=storage", "--object-annotation=a=b=c", "--image-pull-secret=registry")
    rendered = list(yaml.safe_load_all(run("render", "tests/demo/warned.yaml", *settings).stdout))
    [template] = [manifest["spec"]["template"] for manifest in rendered if manifest["kind"] == "StatefulSet"]

    assert {manifest["metadata"]["labels"]["team"] for manifest in rendered} == {"storage"}
    assert {manifest["metadata"]["annotations"]["a"] for manifest in rendered} == {"b=c"}
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_render_refuses_an_invalid_server() -> None:
    result = run("render", "tests/demo/rejected.yaml")
    assert result.returncode == 2
    assert result.stderr == ("dittofs-operator: tests/demo/rejected.yaml:6: port 8080 is used by both nfs and api\n")
