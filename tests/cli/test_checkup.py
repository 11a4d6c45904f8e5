from datetime import UTC, datetime
from typing import Any

import click

from app.cli.checkup import check_as_json, format_checks, server_checks
from app.cluster.reader import PODS
from app.cluster.survey import Survey
from app.storage.checkup import Check, CheckResult
from app.storage.next_step import NextStep
from tests.harness.server_table import server

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
HOSTILE = "a\x1b[2Jb\nproblem  c: d"
PROBLEM = Check(
    "leader", CheckResult.PROBLEM, "nobody holds the Lease", NextStep("See the log.", "kubectl logs " + "x" * 99)
)


def lines(*checks: Check, wide: bool = False) -> list[str]:
    return [click.unstyle(line) for line in format_checks(checks, wide=wide)]


def test_a_remedy_stands_below_its_problem() -> None:
    assert lines(PROBLEM) == [
        "problem  leader: nobody holds the Lease",
        "         Next step: See the log.",
        f"           kubectl logs {'x' * 99}",
        "",
        "1 problem",
    ]


def test_long_lines_are_broken_unless_wide() -> None:
    long = Check("a", CheckResult.OK, "word " * 50)

    assert all(len(line) <= 100 for line in lines(long))
    assert len(lines(long)) > len(lines(long, wide=True)) == 3


def test_results_are_summed_up() -> None:
    warnings = [Check("a", CheckResult.WARNING, "b")] * 2
    assert lines(*warnings, Check("a", CheckResult.UNKNOWN, "b"))[-1] == "1 unknown, 2 warnings"


def test_no_text_of_others_controls_the_terminal() -> None:
    hostile = Check(f"server {HOSTILE}", CheckResult.PROBLEM, HOSTILE, NextStep(HOSTILE, HOSTILE))

    assert all(line.isprintable() for line in lines(hostile))
    assert not [line for line in lines(hostile) if line.startswith("problem  c")]


def test_programs_get_everything() -> None:
    assert check_as_json(PROBLEM) == {
        "check": "leader",
        "result": "problem",
        "message": "nobody holds the Lease",
        "nextStep": {"text": "See the log.", "command": f"kubectl logs {'x' * 99}"},
    }
    assert check_as_json(Check("a", CheckResult.OK, "b"))["nextStep"] is None


def summary(**ready: str) -> tuple[str, str]:
    """Returns what is said of all servers, of which each has this status of the condition Ready."""
    servers = {}
    for name, status in ready.items():
        condition = {"type": "Ready", "status": status, "reason": "Available" if status == "True" else "NodeLost"}
        condition |= {"message": "", "lastTransitionTime": "2026-02-01T11:00:00Z"}
        metadata: Any = {"name": name, "namespace": "media"}
        servers["media", name] = {**server(), "metadata": metadata, "status": {"conditions": [condition]}}
    first = server_checks(Survey(servers=servers, unknown=[PODS]), "in all namespaces", NOW)[0]
    return first.result, first.message


def test_servers_are_not_ok_when_one_is_not() -> None:
    where = "DittoServers in all namespaces"

    assert summary() == ("ok", f"there are no {where}")
    assert summary(a="True", b="True") == ("ok", f"2 of 2 {where} are as they should be")
    assert summary(a="True", b="False") == ("problem", f"1 of 2 {where} are as they should be")
    assert summary(a="False") == ("problem", f"0 of 1 {where} are as they should be")
