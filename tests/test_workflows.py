"""The workflows run what a person can type, with actions that cannot change, and with no more rights than they need."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.command_line import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
# Debian's packages that .ci/run installs too; everything else is a target of the Makefile.
PACKAGES = re.compile(r"(sudo )?apt-get (update|install [a-z0-9 -]+)")
TARGET = re.compile(r"(?:sudo )?make ([a-z0-9]+)(?: [A-Z]+=\S.*)?")
WRITING = {
    "release.yaml": {"release": {"contents", "packages", "id-token", "attestations"}},
}


def name(path: Path) -> str:
    return path.name


def read(path: Path) -> Any:
    # "on" is a boolean in YAML 1.1, which a workflow is not.
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_every_command_is_a_make_target(path: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for command in [step["run"] for step in steps(path) if "run" in step]:
        target = TARGET.fullmatch(command)
        assert PACKAGES.fullmatch(command) or (target and target[1] in targets), command


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_every_action_is_pinned_by_its_commit(path: Path) -> None:
    lines = re.findall(r"uses: (.*)$", path.read_text(), re.MULTILINE)

    assert len(lines) == len([step for step in steps(path) if "uses" in step])
    assert not [line for line in lines if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)]


def test_an_action_has_one_version() -> None:
    pins = {pin for path in WORKFLOWS for pin in re.findall(r"uses: (\S+)", path.read_text())}
    assert len({pin.partition("@")[0] for pin in pins}) == len(pins)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_no_job_may_more_than_it_needs(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] in ("", {}, {"contents": "read"})

    writing = {
        job: {scope for scope, access in workflow["jobs"][job].get("permissions", {}).items() if access != "read"}
        for job in workflow["jobs"]
    }
    assert {job: scopes for job, scopes in writing.items() if scopes} == WRITING.get(path.name, {})


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_the_checkout_leaves_no_token_behind(path: Path) -> None:
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]

    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_no_text_of_others_becomes_part_of_a_command(path: Path) -> None:
    commands = " ".join(step.get("run", "") for step in steps(path))
    assert set(re.findall(r"\$\{\{ *(\S+) *\}\}", commands)) <= {"steps.python.outputs.python-path"}
    assert not {"pull_request_target", "issue_comment", "workflow_run"} & set(read(path)["on"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_every_job_ends(path: Path) -> None:
    assert all(int(job["timeout-minutes"]) <= 120 for job in read(path)["jobs"].values())


def test_what_e2e_installs_is_what_ci_installs() -> None:
    installs = [
        step["run"] for step in steps(ROOT / ".github/workflows/e2e.yaml") if " install " in step.get("run", "")
    ]
    script = (ROOT / ".ci/run").read_text()
    [line] = [line for line in script.splitlines() if "buildah" in line]

    assert [set(re.findall(r"\s([a-z][a-z0-9]+)(?=\s|$)", command)) - {"install"} for command in installs] == [
        set(re.findall(r"\s([a-z][a-z0-9]+)(?=\s)", line)) - {"install"}
    ]


def test_renovate_looks_after_everything_that_is_pinned() -> None:
    configuration = json.loads((ROOT / ".github/renovate.json").read_text())

    assert set(configuration["enabledManagers"]) == {"dockerfile", "github-actions", "gomod", "pip_requirements"}
    [pattern] = configuration["pip_requirements"]["managerFilePatterns"]
    assert all(re.search(pattern.strip("/"), path.name) for path in ROOT.glob("*.lock"))
