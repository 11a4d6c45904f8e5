"""The README tells the truth: its commands are there, its flags are all of them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.__main__ import SUMMARIES, import_command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PERMISSIONS = re.findall(r"^\| ((?:`[a-z/]+`(?:, )?)+) \| ((?:[a-z]+(?:, )?)+) \|", README, re.MULTILINE)
ROWS = re.findall(r"^\| `(--[a-z-]+)[^|]*` \| `([A-Z_]+)` \|", README, re.MULTILINE)


@pytest.mark.parametrize("command", ["serve", "check", "df", "plan"])
def test_every_flag_and_its_variable_are_there(command: str) -> None:
    options = [option for option in import_command(command).params if option.param_type_name == "option"]
    assert {(option.opts[0], option.envvar) for option in options} <= set(ROWS)


def test_no_flag_is_there_that_does_not_exist() -> None:
    options = {option.opts[0] for command in SUMMARIES for option in import_command(command).params}
    assert {flag for flag, _ in ROWS} <= options


def test_every_make_target_that_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z0-9]+)\b", README)) <= targets


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"\b((?:tests|manifests|charts|app)/[\w./-]*\w)", README)
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_ci_runs_the_commands_that_it_tells_a_person_to_type() -> None:
    script = (ROOT / ".ci/run").read_text()
    for command in ("make run", "make check", "make test", "dittofs-operator check manifests/samples"):
        assert command in README
        assert command in script


def test_its_table_of_permissions_is_what_the_operator_may_do() -> None:
    documents = yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text())
    [rules] = [each["rules"] for each in documents if is_the_role_of_reconciling(each)]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    told = [(re.findall(r"[a-z/]+", resources), verbs.split(", ")) for resources, verbs in PERMISSIONS]

    assert {(resource, verb) for resources, verbs in told for resource in resources for verb in verbs} == granted


def is_the_role_of_reconciling(manifest: dict[str, Any]) -> bool:
    return (manifest["kind"], manifest["metadata"]["name"]) == ("ClusterRole", "dittofs-operator")
