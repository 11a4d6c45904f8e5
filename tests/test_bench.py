"""Tests the computations of `make bench`, and its load on a real server."""

import json
from itertools import cycle
from pathlib import Path

import pytest

from app.cluster.reader import CONFIG_MAPS, SECRETS, SERVICES, STATEFUL_SETS
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.admission.reviews import review
from tests.bench.figures import Figure, document, machine, percentile, table
from tests.bench.load import Ask, Load
from tests.bench.reconciling import belongings, new_servers
from tests.bench.shares import parts
from tests.bench.yes import YesWebhook
from tests.harness.fleet import cpu_seconds
from tests.harness.operator_process import Operator
from tests.harness.server_table import s3, server

BEATEN = Figure("Straight", "processor time, ours to yes", 1.25, at_most=1.1)
MET = Figure("Straight", "rate", 1234.5, "/s", at_least=1000)
KNOWN = Figure("Memory", "idle", 59.04, "MB")


@pytest.fixture
def yes(tmp_path: Path) -> YesWebhook:
    """Provides a webhook that does not run yet, with certificate and key in its folder."""
    Operator(tmp_path)
    return YesWebhook(tmp_path)


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


def test_a_sample_counts_for_the_innermost_known_part() -> None:
    stacks = [
        "run (uvloop/loop.pyx:1);app (starlette/routing.py:1);judge (app/storage/rules.py:1);sorted (libpython3) 3",
        "run (uvloop/loop.pyx:1);write (ssl.py:1);SSL_write (libssl.so.3) 4",
        "run (uvloop/loop.pyx:1);send (libc.so.6) 1",
        "Thread.run (threading.py:1);wait (libc.so.6) 5",
    ]

    assert parts(stacks) == {"TLS": 0.5, "rules": 0.375, "the event loop and the kernel": 0.125}


def test_a_load_is_answered_over_several_connections(yes: YesWebhook, tmp_path: Path) -> None:
    admitted = Ask("POST", VALIDATE_PATH, json.dumps(review(server(**s3()))).encode(), expected=b'"allowed":true')
    refused = Ask("GET", VALIDATE_PATH, b"")

    with yes:
        load = Load(yes.url, Operator(tmp_path).trust)
        before = cpu_seconds(yes.pid)
        answers = load.slice(cycle([admitted]), 4, 2)
        paced = load.slice(cycle([admitted]), 4, 1, rate=20)
        [failure, *_] = load.slice(cycle([refused]), 1, 0.2).failures

        assert cpu_seconds(yes.pid) > before

    assert answers.failures == []
    assert answers.rate == len(answers.milliseconds) / 2
    assert len(answers.milliseconds) > 4
    assert len(paced.milliseconds) == 20
    assert failure.startswith("405 ")


def test_the_bare_client_creates_what_the_operator_creates() -> None:
    [shared, single, other] = new_servers(3, sharing=1)
    specs = [manifest["spec"] for manifest in (shared, single, other)]
    names = [spec["s3"]["credentialsSecretRef"]["secretName"] for spec in specs]

    assert names == ["shared", "single", "s3"]

    objects = belongings({**shared, "metadata": {**shared["metadata"], "uid": "u-1"}})

    assert [resource for resource, _ in objects] == [CONFIG_MAPS, SECRETS, SECRETS, STATEFUL_SETS, *[SERVICES] * 3]
