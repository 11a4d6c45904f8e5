"""What many servers cost, counted and measured on a real API server: writes, requests, memory, the webhook's patience.

`pytest -s` shows the figures.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx
import pytest

from app.cluster.reader import DITTO_SERVERS, SECRETS
from app.storage.desired import config_hash_of
from app.storage.spec import KIND
from app.storage.unstructured import Manifest
from app.storage.webhook_configurations import VALIDATE_PATH
from tests.admission.reviews import review
from tests.controlplane.cluster import ControlPlane
from tests.harness.background import Background
from tests.harness.fleet import (
    S3_VALUES,
    ClusterWideOperator,
    create_all,
    is_busy,
    large_secret,
    memory_megabytes,
    metric,
    namespaced_server,
    numbered_servers,
    wait_until_created,
    wait_until_quiet,
)
from tests.harness.operator_namespace import OperatorNamespace, Request
from tests.harness.operator_process import Operator
from tests.harness.server_table import s3, server, storage
from tests.harness.wait import until

SOME, SHARING = 300, 200
MOST_MEGABYTES = 150
MOST_MILLISECONDS = 100
# Of a processor, for what the event loop does without a look at anything else.
MOST_STEP_MILLISECONDS = 10
REVIEWS_A_SECOND = 50


class Reviews(Background):
    """Posts a review, 50 times a second, over one connection; `milliseconds` is how long each took."""

    def __init__(self, operator: Operator, manifest: Manifest) -> None:
        super().__init__()
        self.milliseconds: list[float] = []
        self._operator = operator
        self._review = review(manifest)

    def run(self) -> None:
        with httpx.Client(base_url=self._operator.url, verify=self._operator.trust, trust_env=False) as client:
            while not self.ending.wait(1 / REVIEWS_A_SECOND):
                begun = monotonic()
                response = client.post(VALIDATE_PATH, json=self._review).raise_for_status().json()["response"]
                self.milliseconds.append((monotonic() - begun) * 1000)
                assert response["allowed"], response

    def percentile(self, hundredth: int) -> float:
        return sorted(self.milliseconds)[len(self.milliseconds) * hundredth // 100]


@pytest.fixture
def operated_everywhere(control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path) -> OperatorNamespace:
    """Not at work yet."""
    return ClusterWideOperator(control_plane, namespace, tmp_path)


@pytest.mark.parametrize(
    ("spec", "claims", "most"),
    [
        ({}, 2, 6),
        ({**s3(), **storage(contentSize="50Gi", cacheSize="5Gi")}, 3, 6),
        # One object more, the Service of the metrics.
        ({"metrics": {"enabled": True}}, 2, 7),
    ],
    ids=["minimal", "S3", "metrics"],
)
def test_a_new_server_costs_a_write_for_each_object_and_one_for_its_status(
    operated: OperatorNamespace, spec: Manifest, claims: int, most: int
) -> None:
    operated.put_secret("s3", **S3_VALUES)
    operated.apply(server("files", **spec))
    until(lambda: len(operated.list_all("persistentvolumeclaims")) == claims)
    until(lambda: operated.get("pod", "files-0") is not None)
    writes = wait_until_quiet(operated)
    counted = [each for each in writes if (each.verb, each.resource) != ("create", "secrets")]
    table(*((f"{each.verb} {each.resource} {each.name}", str(each.code)) for each in writes))

    assert len(counted) <= most


def test_a_restarted_operator_writes_nothing_and_an_idle_one_asks_nothing(
    control_plane: ControlPlane, operated: OperatorNamespace
) -> None:
    create_all(control_plane, DITTO_SERVERS, numbered_servers(SOME, operated.namespace, replicas=0))
    wait_until_created(operated, SOME)
    wait_until_quiet(operated)
    operated.operator.stop()
    before = len(operated.requests())
    begun = monotonic()
    operated.operator.start()
    until(lambda: metric(operated.operator, "controller_runtime_reconcile_total") >= SOME, 60)
    until(lambda: not is_busy(operated.operator), 60)
    seconds = monotonic() - begun
    wait_until_quiet(operated)
    restarted = operated.requests()[before:]
    sleep(60)
    idle = operated.requests()[before + len(restarted) :]
    table(("reconciled after", f"{seconds:.1f} s"), *kinds("restart", restarted), *kinds("idle minute", idle))

    assert not [each for each in restarted if each.writes and each.resource != "leases"]

    asked = [each for each in restarted if each.verb != "watch" and each.resource != "leases"]

    assert {(each.verb, each.resource) for each in asked} <= {("get", "secrets")}
    assert not [each for each, times in Counter(asked).items() if times > 1]
    assert not [each for each in idle if each.verb != "watch" and each.resource != "leases"]


def test_a_secret_that_many_servers_share_is_read_once_a_change(
    control_plane: ControlPlane, operated: OperatorNamespace
) -> None:
    operated.put_secret("s3", **S3_VALUES)
    create_all(control_plane, DITTO_SERVERS, numbered_servers(SHARING, operated.namespace, replicas=0, **s3()))
    wait_until_created(operated, SHARING)
    wait_until_quiet(operated)
    before, templates = len(operated.requests()), hashes(operated)
    operated.put_secret("s3", **{**S3_VALUES, "secretAccessKey": "rotated"})
    begun = monotonic()
    until(lambda: hashes(operated).isdisjoint(templates), 60)
    seconds = monotonic() - begun
    wait_until_quiet(operated)
    asked = operated.requests()[before:]
    table((f"until the last of {SHARING} changed", f"{seconds:.1f} s"), *kinds("rotation", asked))
    reads = [each for each in asked if (each.verb, each.resource, each.name) == ("get", "secrets", "s3")]

    assert len(hashes(operated)) == SHARING
    assert len(reads) == 1


# A thousand servers in the cluster of the tests are nothing to start the others with: this one is the last.
@pytest.mark.alone
@pytest.mark.parametrize(("servers", "foreign"), [(1000, 300)])
def test_a_thousand_servers_and_large_foreign_secrets_take_little_memory_and_hold_up_no_review(
    control_plane: ControlPlane,
    operated_everywhere: OperatorNamespace,
    monkeypatch: pytest.MonkeyPatch,
    servers: int,
    foreign: int,
) -> None:
    # To measure how much of the code the tests cover takes memory as well.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    operated = operated_everywhere
    steps = operated.operator.folder / "steps.json"
    operated.operator.module = ("tests.harness.event_loop_steps", steps)
    operated.put_secret("s3", **S3_VALUES)
    begun = monotonic()
    create_all(control_plane, SECRETS, (large_secret(f"foreign-{n}", "default") for n in range(foreign)))
    create_all(control_plane, DITTO_SERVERS, numbered_servers(servers, operated.namespace, **s3()))
    there = monotonic()
    manifest = namespaced_server("reviewed", operated.namespace, **s3())
    with operated, Reviews(operated.operator, manifest) as reviews:
        wait_until_created(operated, servers)
        done = monotonic()
        # Which every one of them may have to do with.
        operated.kubectl("annotate", "storageclass", "fast", f"looked-at-by={operated.namespace}")
        wait_until_created(operated, servers)
        memory = memory_megabytes(operated.operator.pid)
    told = [each for each in operated.list_all("events") if each["involvedObject"]["kind"] == KIND]
    longest = json.loads(steps.read_text())
    table(
        ("foreign Secrets and servers made", f"{there - begun:.1f} s"),
        ("reconciled", f"{done - there:.1f} s"),
        *((name, f"{megabytes:.0f} MB") for name, megabytes in memory.items()),
        ("reviews", str(len(reviews.milliseconds))),
        *((f"{p}th percentile", f"{reviews.percentile(p):.1f} ms") for p in (50, 90, 99)),
        ("longest", f"{max(reviews.milliseconds):.1f} ms"),
        *((f"step: {what[:90]}", f"{1000 * seconds:.1f} ms") for seconds, what in longest[:5]),
    )

    assert memory["VmHWM"] < MOST_MEGABYTES
    assert not [each["message"] for each in told if each["type"] == "Warning"]
    assert 1000 * longest[0][0] < MOST_STEP_MILLISECONDS
    assert reviews.percentile(99) < MOST_MILLISECONDS


def kinds(title: str, requests: Iterable[Request]) -> Iterator[tuple[str, str]]:
    counted = Counter(f"{title}: {each.verb} {each.resource}" for each in requests)
    return ((kind, str(times)) for kind, times in sorted(counted.items()))


def hashes(operated: OperatorNamespace) -> set[str]:
    """What the pods of the servers read, a digest for each."""
    return {config_hash_of(each) or "" for each in operated.list_all("statefulsets")}


def table(*rows: tuple[str, str]) -> None:
    width = max(len(title) for title, _ in rows)
    print()
    for title, figure in rows:
        print(f"  {title:{width}}  {figure}")
