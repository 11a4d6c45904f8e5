"""Tests the computations of `make bench`, and its load on a real server."""

import json
import os
import signal
import sys
from itertools import cycle
from pathlib import Path

import pytest

from app.cluster.reader import CONFIG_MAPS, SECRETS, SERVICES, STATEFUL_SETS
from app.storage.webhook_configurations import MUTATE_PATH, VALIDATE_PATH
from tests.admission.reviews import review
from tests.bench.command import WebhookCommand
from tests.bench.figures import Figure, Layer, document, machine, percentile, table, table_of_layers
from tests.bench.load import Ask, Load
from tests.bench.processors import apart, cpu_seconds_of_tree
from tests.bench.reconciling import belongings, new_servers
from tests.bench.yes import COMMAND
from tests.controlplane.program import Failed, Program
from tests.harness.fleet import cpu_seconds
from tests.harness.operator_process import Operator
from tests.harness.server_table import s3, server
from tests.harness.wait import until

BEATEN = Figure("Straight", "processor time, ours to yes", 1.25, at_most=1.1)
MET = Figure("Straight", "rate", 1234.5, "/s", at_least=1000)
KNOWN = Figure("Memory", "idle", 59.04, "MB")


@pytest.fixture
def yes(tmp_path: Path) -> WebhookCommand:
    """Provides a webhook that does not run yet, with certificate and key in its folder."""
    Operator(tmp_path)
    return WebhookCommand(COMMAND, tmp_path)


@pytest.mark.parametrize(
    ("hundredth", "expected"), [(0, 1), (1, 1), (50, 50), (50.5, 51), (99, 99), (99.1, 100), (100, 100)]
)
def test_a_percentile_is_not_exceeded_by_so_many(hundredth: float, expected: int) -> None:
    assert percentile(reversed(range(1, 101)), hundredth) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99) == 7.0


def test_the_table_tells_which_goals_are_reached() -> None:
    assert table([BEATEN, KNOWN, MET]).splitlines() == [
        "| Straight | measured | to be reached |",
        "|---|---|---|",
        "| processor time, ours to yes | 1.25 | at most 1.10: **no** |",
        "| rate | 1,234 /s | at least 1,000: yes |",
        "",
        "| Memory | measured | to be reached |",
        "|---|---|---|",
        "| idle | 59.0 MB |  |",
    ]


def test_the_json_has_all_figures_and_conditions() -> None:
    written = json.loads(json.dumps(document([BEATEN, KNOWN], machine())))

    assert {"processor", "processors", "memory", "python", "load"} <= written["conditions"].keys()
    assert written["figures"] == [
        {
            "section": "Straight",
            "what": "processor time, ours to yes",
            "value": 1.25,
            "unit": "",
            "at_most": 1.1,
            "at_least": None,
            "reached": False,
        },
        {
            "section": "Memory",
            "what": "idle",
            "value": 59.04,
            "unit": "MB",
            "at_most": None,
            "at_least": None,
            "reached": None,
        },
    ]


def test_the_layers_of_a_review_add_up() -> None:
    layers = [Layer("TLS", 20.0, 24.0, 50_000), Layer("rules", 60.0, 66.0, 150_000)]

    assert table_of_layers(layers, Layer("only yes", 40.0, 45.0, 160_000)).splitlines() == [
        "| layer | µs, least | µs, median | share | instructions |",
        "|---|---|---|---|---|",
        "| TLS | 20.0 | 24.0 | 25% | 50,000 |",
        "| rules | 60.0 | 66.0 | 75% | 150,000 |",
        "| **all of it** | 80.0 | 90.0 | 100% | 200,000 |",
        "| only yes | 40.0 | 45.0 | 50% | 160,000 |",
        "| the whole to yes | 2.00 | 2.00 | | 1.25 |",
    ]


def test_a_load_is_answered_over_several_connections(yes: WebhookCommand, tmp_path: Path) -> None:
    admitted = Ask("POST", VALIDATE_PATH, json.dumps(review(server(**s3()))).encode(), expected=b'"allowed":true')
    refused = Ask("GET", VALIDATE_PATH, b"")

    with yes:
        load = Load(yes.url, Operator(tmp_path).trust)
        before = cpu_seconds_of_tree(yes.pid)
        answers = load.slice(cycle([admitted]), 4, 2)
        paced = load.slice(cycle([admitted]), 4, 1, rate=20)
        [failure, *_] = load.slice(cycle([refused]), 1, 0.2).failures

        assert cpu_seconds_of_tree(yes.pid) > before

    assert answers.failures == []
    assert answers.rate == len(answers.milliseconds) / 2
    assert len(answers.milliseconds) > 4
    assert len(paced.milliseconds) == 20
    assert failure.startswith("405 ")


def test_a_load_measures_its_own_processor_time(yes: WebhookCommand, tmp_path: Path) -> None:
    admitted = Ask("POST", VALIDATE_PATH, json.dumps(review(server(**s3()))).encode(), expected=b'"allowed":true')

    with yes, apart(yes.pid):
        answers = Load(yes.url, Operator(tmp_path).trust).slice(cycle([admitted]), 4, 1)

    assert 0 < answers.cpu_seconds < answers.seconds


def test_any_command_can_be_measured(tmp_path: Path) -> None:
    """It is split into words, and no shell expands what they have in them."""
    folder = tmp_path / "a $(folder)"
    folder.mkdir()
    trust = Operator(folder).trust
    command = f"env PATHS={{mutate_path}},{{validate_path}} '{sys.executable}' -m tests.bench.yes {{port}} {{folder}}"
    ask = Ask("POST", VALIDATE_PATH, json.dumps(review(server(**s3()))).encode(), expected=b'"allowed":true')

    with WebhookCommand(command, folder) as other:
        environ = Path(f"/proc/{other.pid}/environ").read_bytes().split(b"\0")
        before = cpu_seconds_of_tree(other.pid)
        answers = Load(other.url, trust).slice(cycle([ask]), 4, 1)

        assert cpu_seconds_of_tree(other.pid) > before

    assert f"PATHS={MUTATE_PATH},{VALIDATE_PATH}".encode() in environ
    assert answers.failures == []


def test_a_command_that_ends_says_why(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no such option"):
        WebhookCommand(f"'{sys.executable}' -c 'raise SystemExit(\"no such option\")'", tmp_path).__enter__()


def test_processor_time_includes_what_a_process_has_started(tmp_path: Path) -> None:
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    program = Program(sys.executable, "-c", burn, folder=tmp_path, log=tmp_path / "log", environ=os.environ)

    try:
        until(lambda: cpu_seconds_of_tree(program.pid) > 0.3)
        assert cpu_seconds(program.pid) < 0.3
    finally:
        program.stop(signal.SIGKILL)


def test_the_bare_client_creates_what_the_operator_creates() -> None:
    [shared, single, other] = new_servers(3, sharing=1)
    specs = [manifest["spec"] for manifest in (shared, single, other)]
    names = [spec["s3"]["credentialsSecretRef"]["secretName"] for spec in specs]

    assert names == ["shared", "single", "s3"]

    objects = belongings({**shared, "metadata": {**shared["metadata"], "uid": "u-1"}})

    assert [resource for resource, _ in objects] == [CONFIG_MAPS, SECRETS, SECRETS, STATEFUL_SETS, *[SERVICES] * 3]
