import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from app.__main__ import SUMMARIES, import_command
from app.cli.options import Scope, Source, parse_address
from app.settings import Address
from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import SNAPSHOT, run
from tests.harness.server_table import server


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:9443", Address("0.0.0.0", 9443)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_an_address_is_printed_as_it_was_parsed(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "9443", ":9443", "localhost:", "localhost:http", "localhost:65536"])
def test_a_refused_address_comes_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is not HOST:PORT, such as 0\.0\.0\.0:9443"):
        parse_address(text)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--object-label=team"], "'team' is not KEY=VALUE, such as team=storage"),
        (["--object-label=app=x"], 'label "app" is reserved for Kubernetes or the operator; choose another key'),
        (["--object-label=a=1", "--object-label=a=2"], '--object-label sets "a" more than once'),
        (["--object-annotation==x"], 'the key of annotation "" must be'),
        (["--image-pull-secret=A"], 'no Secret can have the name "A"'),
    ],
)
def test_unusable_settings_for_all_servers_are_refused(flags: list[str], message: str) -> None:
    result = run("serve", *flags)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_flag_can_be_set_in_the_environment() -> None:
    check = run("check", "tests/demo/rejected.yaml", DITTOFS_OPERATOR_SNAPSHOT=SNAPSHOT, DITTOFS_OPERATOR_OUTPUT="json")
    [judgement] = json.loads(check.stdout)

    assert 'StorageClass "premium" does not exist' in judgement["findings"][1]["message"]


def test_every_flag_has_its_variable_and_a_sentence() -> None:
    commands = [import_command(name) for name in SUMMARIES]
    options = [option for command in commands for option in command.params if isinstance(option, click.Option)]

    assert options

    for option in options:
        assert option.envvar == "DITTOFS_OPERATOR_" + str(option.name).upper()
        assert str(option.help)[0].isupper()
        assert str(option.help).endswith(".")


def test_a_context_of_merged_files_can_be_chosen(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> None:
    control_plane.kubectl("apply", "--namespace", namespace, "-f", "-", input=yaml.safe_dump(server()))
    manifest = tmp_path / "server.yaml"
    manifest.write_text(yaml.safe_dump(server()))

    config = json.loads(control_plane.kubeconfig.read_text())
    far = {"cluster": {"server": "https://127.0.0.1:1"}, "name": "far"}
    contexts = {"far": {"cluster": "far", "user": "tests"}, "near": {"cluster": "tests", "user": "tests"}}
    contexts["near"]["namespace"] = namespace
    named = [{"name": name, "context": context} for name, context in contexts.items()]
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(json.dumps({"clusters": [far], "contexts": named, "current-context": "far"}))
    second.write_text(json.dumps({**config, "current-context": "tests"}))
    files = os.pathsep.join(map(str, (first, tmp_path / "missing", second)))

    volumes = run("df", "--context", "near", KUBECONFIG=files)
    plan = run("plan", str(manifest), KUBECONFIG=files, DITTOFS_OPERATOR_CONTEXT="near")
    check = run("check", str(manifest), "--context", "near", KUBECONFIG=files)

    assert [line.split()[0] for line in volumes.stdout.splitlines()] == ["NAMESPACE", namespace, namespace]
    assert plan.stdout.startswith(f"DittoServer {namespace}/files: ")

    # The cluster has answered, whatever it has.
    assert "1 DittoServers" in check.stdout
    assert "Could not verify" not in check.stdout

    # Without the flag it is the current context of the first file.
    assert "127.0.0.1:1" in run("df", KUBECONFIG=files).stderr
    assert "context 'none' does not exist" in run("df", "--context=none", KUBECONFIG=files).stderr


@pytest.fixture(scope="module")
def without_crd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(programs(os.environ), tmp_path_factory.mktemp("without-crd")) as running:
        yield running


@pytest.mark.parametrize(
    "arguments", [("df",), ("df", "-A", "--output=json"), ("plan", "manifests/samples"), ("check", "manifests/samples")]
)
def test_each_command_says_that_the_crd_is_missing(without_crd: ControlPlane, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--kubeconfig", str(without_crd.kubeconfig))

    assert result.returncode == 2
    assert result.stdout == ""
    assert "the CustomResourceDefinition dittoservers.dittofs.dittofs.com is not installed" in result.stderr
    assert 'install it with "dittofs-operator crd | kubectl apply -f -"' in result.stderr


def test_a_source_has_the_name_that_a_person_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("current-context: production")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

    assert Source(None, None, None).title == "context production"
    assert Source(kubeconfig, None, None).title == "context production"
    assert Source(None, "staging", None).title == "context staging"
    assert Source(None, None, tmp_path / "dump.yaml").title == "snapshot dump.yaml"

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert Source(None, None, None).title == "the cluster of this pod"


def test_a_scope_tells_which_servers_are_meant() -> None:
    assert Scope().title == "all namespaces"
    assert Scope("media").title == "namespace media"
    assert Scope("media", labels="team=a").title == "namespace media, label team=a"
