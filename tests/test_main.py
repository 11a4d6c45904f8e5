"""The command line as it is typed, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from app.__main__ import command_line
from app.storage.crd import custom_resource_definition
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.operator_namespace import OperatorNamespace
from tests.harness.server_table import server, storage

ROOT = Path(__file__).parent.parent
SNAPSHOT = "tests/demo/snapshot.yaml"


def run(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        input=given,
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (("manifests/samples",), 0, "3 DittoServers: 3 admitted, 0 rejected, 3 warnings"),
        (("manifests/samples", "--snapshot", SNAPSHOT), 0, "3 DittoServers: 3 admitted, 0 rejected, 0 warnings"),
        (("tests/demo/warned.yaml", SNAPSHOT), 0, "1 DittoServers: 1 admitted, 0 rejected, 2 warnings"),
        (("tests/demo", "manifests/samples"), 1, "6 DittoServers: 5 admitted, 1 rejected, 1 warnings"),
    ],
)
def test_check_exits_with_its_verdict(arguments: tuple[str, ...], code: int, last: str) -> None:
    checked = run("check", *arguments)
    assert checked.returncode == code
    assert checked.stdout.splitlines()[-1] == last
    assert checked.stderr == ""


def test_check_reads_standard_input() -> None:
    checked = run("check", "-", given=(ROOT / "tests/demo/rejected.yaml").read_text())
    assert checked.returncode == 1
    assert "stdin:6 spec.controlPlane.port" in checked.stdout


def test_a_flag_can_be_set_in_the_environment() -> None:
    checked = run(
        "check", "tests/demo/rejected.yaml", DITTOFS_OPERATOR_SNAPSHOT=SNAPSHOT, DITTOFS_OPERATOR_OUTPUT="json"
    )
    [judgement] = json.loads(checked.stdout)

    assert 'StorageClass "premium" does not exist' in judgement["findings"][1]["message"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("check", "none-such.yaml"), "none-such.yaml: cannot be read: No such file or directory"),
        (("check", SNAPSHOT), "expected a DittoServer among the 3 documents given"),
        (("check", "manifests/samples", "--kubeconfig", "none"), "kubeconfig none cannot be used"),
        (("check", "manifests/samples", "--kubeconfig", "a", "--snapshot", "b"), "exclude each other"),
        (("review", SNAPSHOT), f"{SNAPSHOT}: expected a DittoServer in it"),
        (("render", SNAPSHOT), f"{SNAPSHOT}: expected a DittoServer in it"),
        (("plan", SNAPSHOT, "--snapshot", SNAPSHOT), f"{SNAPSHOT}: expected a DittoServer in it"),
        (("df", "--kubeconfig", "none"), "kubeconfig none cannot be used"),
        (("df", "--context", "a", "--snapshot", SNAPSHOT), "--context and --snapshot exclude each other"),
        (("serve", "--tls-key=a"), "--tls-cert and --tls-key belong together: give both, or neither"),
        (("serve", "--snapshot=b"), "--snapshot needs --tls-cert and --tls-key"),
        (("serve", "--ca-days=0"), "0.0 is not in the range"),
        (("serve", "--listen=9443"), "'9443' is not HOST:PORT, such as 0.0.0.0:9443"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line_and_exits_with_two(arguments: tuple[str, ...], complaint: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_certificate_that_is_not_there_is_told_with_what_to_do() -> None:
    refused = run("serve", "--tls-cert=a", "--tls-key=b", "--snapshot", SNAPSHOT)
    assert refused.returncode == 1
    assert "cannot serve certificate a with key b: No such file or directory" in refused.stderr
    assert "python -m certs" in refused.stderr


@pytest.fixture
def plugin(control_plane: ControlPlane, crd: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`kubectl dittofs` with the program installed, its lines on standard output and standard error."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def kubectl(*arguments: str) -> list[str]:
        ran = control_plane.kubectl("dittofs", *arguments)
        return [*ran.stdout.splitlines(), *ran.stderr.splitlines()]

    return kubectl


def test_kubectl_lists_volumes_where_no_kubelet_says_how_full_they_are(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("apply", "--namespace", namespace, "-f", "-", input=yaml.safe_dump(server()))
    in_default, in_its_own, in_all = plugin("df"), plugin("df", "-n", namespace), plugin("df", "-A")
    heading, metadata, cache = in_its_own

    assert heading.split()[:3] == ["NAMESPACE", "SERVER", "VOLUME"]
    assert metadata.split() == [namespace, "files", "metadata", "fast", "10Gi", "-", "unknown", "Pending"]
    assert cache.split()[2:] == ["cache", "fast", "5Gi", "-", "unknown", "Pending"]
    assert not any(namespace in line for line in in_default)
    assert sum(namespace in line for line in in_all) == 2
    assert [each["volume"] for each in json.loads("\n".join(plugin("df", "-n", namespace, "--output=json")))] == [
        "metadata",
        "cache",
    ]


def test_as_a_plugin_it_goes_by_the_name_that_was_typed(plugin: Callable[..., list[str]]) -> None:
    assert plugin("df", "--help")[0] == "Usage: kubectl dittofs df [OPTIONS]"


def test_what_may_not_be_asked_is_a_line_beside_what_is_told(
    control_plane: ControlPlane, crd: None, namespace: str
) -> None:
    pod = {"nodeName": "node1", "containers": [{"name": "dittofs", "image": "sample"}]}
    labels = {"app": "dittofs-server"}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files-0", "labels": labels}, "spec": pod}
    here = ("--namespace", namespace)
    control_plane.kubectl("apply", *here, "-f", "-", input=yaml.safe_dump_all([server(), made]))
    control_plane.kubectl("create", "serviceaccount", "viewer", *here)
    may_list = "--resource=pods,persistentvolumeclaims,statefulsets.apps,dittoservers.dittofs.dittofs.com"
    control_plane.kubectl("create", "role", "viewer", "--verb=list", may_list, *here)
    account = f"--serviceaccount={namespace}:viewer"
    control_plane.kubectl("create", "rolebinding", "viewer", "--role=viewer", account, *here)
    kubeconfig = control_plane.kubeconfig_for("viewer", namespace)
    listed = run("df", "--kubeconfig", str(kubeconfig))

    assert listed.returncode == 0
    assert [line.split()[6] for line in listed.stdout.splitlines()[1:]] == ["unknown", "unknown"]

    classes, used = listed.stderr.splitlines()

    assert classes.startswith("storageclasses are unknown: forbidden: ")
    assert used.startswith("used space is unknown on 1 of 1 nodes: forbidden: ")

    planned = run("plan", "-", "--kubeconfig", str(kubeconfig), given=yaml.safe_dump(server()))

    assert planned.stdout == f"DittoServer {namespace}/files: nothing changes\n"
    assert planned.stderr == f"{classes}\n"


def test_kubectl_tells_what_applying_a_file_would_do(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "server.yaml"
    manifest.write_text(yaml.safe_dump(server(image="dittofs:2", **storage(storageClassName=""))))

    assert plugin("plan", str(manifest), "-n", namespace)[0] == f"DittoServer {namespace}/files: new"

    control_plane.kubectl("apply", "--namespace", namespace, "-f", str(manifest))

    assert plugin("plan", str(manifest), "-n", namespace) == [f"DittoServer {namespace}/files: nothing changes"]


@pytest.mark.parametrize(("port", "code", "verdict"), [(2050, 0, "new"), (8080, 1, "refused")])
def test_plan_exits_with_its_verdict(tmp_path: Path, port: int, code: int, verdict: str) -> None:
    planned = run("plan", "-", "--snapshot", SNAPSHOT, given=yaml.safe_dump(server(nfsPort=port)))
    assert planned.returncode == code
    assert planned.stdout.splitlines()[0] == f"DittoServer default/files: {verdict}"


@pytest.fixture(scope="module")
def without_crd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(programs(os.environ), tmp_path_factory.mktemp("without-crd")) as running:
        yield running


@pytest.mark.parametrize(
    "arguments", [("df",), ("df", "-A", "--output=json"), ("plan", "manifests/samples"), ("check", "manifests/samples")]
)
def test_each_command_says_that_the_crd_is_missing(without_crd: ControlPlane, arguments: tuple[str, ...]) -> None:
    refused = run(*arguments, "--kubeconfig", str(without_crd.kubeconfig))

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "the CustomResourceDefinition dittoservers.dittofs.dittofs.com is not installed" in refused.stderr
    assert 'install it with "dittofs-operator crd | kubectl apply -f -"' in refused.stderr


def test_a_context_of_merged_files_can_be_chosen(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    control_plane.kubectl("apply", "--namespace", namespace, "-f", "-", input=yaml.safe_dump(server()))
    config = json.loads(control_plane.kubeconfig.read_text())
    far = {"cluster": {"server": "https://127.0.0.1:1"}, "name": "far"}
    contexts = {"far": {"cluster": "far", "user": "tests"}, "near": {"cluster": "tests", "user": "tests"}}
    contexts["near"]["namespace"] = namespace
    named = [{"name": name, "context": context} for name, context in contexts.items()]
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(json.dumps({"clusters": [far], "contexts": named, "current-context": "far"}))
    second.write_text(json.dumps({**config, "current-context": "tests"}))
    files = os.pathsep.join(map(str, (first, tmp_path / "missing", second)))
    manifest = tmp_path / "server.yaml"
    manifest.write_text(yaml.safe_dump(server()))

    listed = run("df", "--context", "near", KUBECONFIG=files)
    planned = run("plan", str(manifest), KUBECONFIG=files, DITTOFS_OPERATOR_CONTEXT="near")
    checked = run("check", str(manifest), "--context", "near", KUBECONFIG=files)

    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NAMESPACE", namespace, namespace]
    assert planned.stdout.startswith(f"DittoServer {namespace}/files: ")
    # The cluster has answered, whatever it has.
    assert "1 DittoServers" in checked.stdout
    assert "Could not verify" not in checked.stdout
    # Without the flag it is the current context of the first file.
    assert "127.0.0.1:1" in run("df", KUBECONFIG=files).stderr
    assert "context 'none' does not exist" in run("df", "--context=none", KUBECONFIG=files).stderr


def test_df_lists_the_volumes_of_a_snapshot(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    here, there = ({**server(), "metadata": {"name": "files", "namespace": each}} for each in ("here", "there"))
    snapshot.write_text(yaml.safe_dump_all([here, there]))

    assert len(run("df", "--snapshot", str(snapshot)).stdout.splitlines()) == 5
    assert len(run("df", "--snapshot", str(snapshot), "-n", "here").stdout.splitlines()) == 3


def test_crd_prints_what_kubectl_can_apply() -> None:
    assert yaml.safe_load(run("crd").stdout) == custom_resource_definition()


def test_review_wraps_a_manifest_for_curl() -> None:
    wrapped = json.loads(run("review", "tests/demo/defaulted.yaml").stdout)
    assert wrapped["kind"] == "AdmissionReview"
    assert wrapped["request"]["object"]["metadata"]["name"] == "defaulted"
    assert wrapped["request"]["dryRun"] is True


def test_every_flag_has_its_variable() -> None:
    options = [
        option
        for command in command_line.commands.values()
        for option in command.params
        if option.param_type_name == "option"
    ]

    assert options

    for option in options:
        assert option.envvar == "DITTOFS_OPERATOR_" + option.name.upper()


def test_a_check_does_not_wait_for_web_server_and_client() -> None:
    code = "import sys, app.__main__; print(*{'fastapi', 'uvicorn', 'kubernetes_asyncio'} & sys.modules.keys())"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout == "\n"


def test_render_prints_what_is_made_and_no_secret() -> None:
    rendered = list(yaml.safe_load_all(run("render", "manifests/samples").stdout))
    assert {each["kind"] for each in rendered} == {"ConfigMap", "Service", "StatefulSet"}
    assert "namespace" not in rendered[0]["metadata"]


def test_what_is_rendered_is_no_difference_to_what_was_made(operated: OperatorNamespace, tmp_path: Path) -> None:
    manifest = tmp_path / "server.yaml"
    manifest.write_text(
        yaml.safe_dump(server(**storage(cacheSize="1024Mi", contentSize="1Ti"), resources={"limits": {"cpu": 2}}))
    )
    operated.kubectl("apply", "-f", str(manifest))
    operated.wait_until_observed("files")
    rendered = run("render", str(manifest)).stdout

    assert operated.kubectl("diff", "-f", "-", input=rendered) == ""


def test_render_refuses_what_nothing_is_made_of() -> None:
    refused = run("render", "tests/demo/rejected.yaml")
    assert refused.returncode == 2
    assert refused.stderr == ("dittofs-operator: tests/demo/rejected.yaml:6: port 8080 is used by both nfs and api\n")


def test_an_error_has_nothing_that_a_terminal_obeys() -> None:
    refused = run("check", "-", given='apiVersion: v1\nkind: A\n"\\a\\N": 1\n"\\a\\N": 2\n')

    assert refused.returncode == 2
    assert "expected the key" in refused.stderr
    assert refused.stderr.removesuffix("\n").isprintable()
