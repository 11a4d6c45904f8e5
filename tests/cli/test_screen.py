from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.cli.screen import (
    SCREEN_COLUMNS,
    SCREEN_LINES,
    STATE_WORDS,
    age,
    command_lines,
    fit,
    format_overview,
    format_screen,
    width,
    wrap,
)
from app.cli.server_report import ServerReport, report
from app.cluster.reader import PODS
from app.cluster.survey import Survey
from app.storage.facts import Claim
from app.storage.next_step import State
from app.storage.unstructured import Manifest
from app.storage.usage import Usage
from tests.harness.json_strategies import ANY_JSON
from tests.harness.server_table import s3, server, storage

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
KEY = ("media", "files")
HOSTILE = "\x1b]0;title\x07\x1b[2J\n\r\u202e"
# Any text that a tenant, a registry or a server may have written, with wide characters, or very long.
TEXTS = st.text(max_size=40) | st.sampled_from([HOSTILE, "x" * 5000, "一" * 300, "word " * 300])


def ago(**duration: float) -> str:
    return (NOW - timedelta(**duration)).isoformat()


def condition(kind: str, status: str, reason: str, message: str = "") -> Manifest:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(minutes=12)}


def event(reason: str, message: str, kind: str = "Pod", name: str = "files-0", **fields: Any) -> Manifest:
    about = {"kind": kind, "name": name}
    return {"metadata": {"name": reason}, "involvedObject": about, "reason": reason, "message": message, **fields}


def make_report(*conditions: Manifest, events: list[Manifest] | None = None, **parts: Any) -> ServerReport:
    status = {"observedGeneration": 1, "conditions": list(conditions), **parts.pop("status", {})}
    metadata = {"name": KEY[1], "namespace": KEY[0], "generation": 1}
    manifest = {**server(**parts.pop("spec", {})), "metadata": metadata, "status": status}
    return report(Survey(servers={KEY: manifest}, **{"unknown": [PODS], **parts}), KEY, NOW, events or [])


def screen(shown: ServerReport, **options: Any) -> list[str]:
    return [click.unstyle(line) for line in format_screen(shown, **options)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172799, "47h"), (172800, "2d")],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    assert age(ago(seconds=seconds), NOW) == text


@pytest.mark.parametrize("since", [None, "", "yesterday", "2026-02-01T11:00:00"])
def test_an_unreadable_time_has_no_age(since: str | None) -> None:
    assert age(since, NOW) == "-"


@given(TEXTS, st.integers(20, 120))
def test_a_text_fits_into_its_columns(text: str, columns: int) -> None:
    line = fit(text, columns)
    assert width(line) <= columns
    assert line.isprintable()


@given(TEXTS, st.integers(20, 120), st.integers(1, 5))
def test_wrapped_lines_are_few_and_fit(text: str, columns: int, most: int) -> None:
    lines = wrap(text, columns, most)
    assert len(lines) <= most
    assert all(width(line) <= columns and line.isprintable() for line in lines)


def test_wrapped_words_are_kept() -> None:
    text = "a volume claim of the server is being deleted"
    assert " ".join(wrap(text, 20, 5)) == text
    assert wrap(text, 20, 2) == ["a volume claim of", "the server is being…"]


def test_a_long_command_can_be_copied() -> None:
    command = f"kubectl -n {'n' * 63} describe pvc -l app=dittofs-server,instance={'s' * 52}"
    lines = command_lines(command, SCREEN_COLUMNS)

    assert len(lines) == 2
    assert lines[0].endswith(" \\")
    assert " ".join(" ".join(lines).replace("\\", "").split()) == command


def test_the_screen_of_a_healthy_server() -> None:
    server_status = {"family": "Current", "version": "0.29.0", "startedAt": ago(days=3)}
    pod = {
        "metadata": {"name": "files-0"},
        "spec": {"nodeName": "worker-1", "containers": [{"name": "dittofs", "image": "example.com/dittofs:tested"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": "dittofs", "restartCount": 1, "state": {"running": {"startedAt": ago(days=3)}}}
            ],
        },
    }
    shown = make_report(
        condition("Ready", "True", "Available", "NFS is served at here:2049"),
        condition("Reconciling", "False", "Reconciled"),
        condition("Stalled", "False", "Reconciled"),
        condition("StorageReady", "True", "Bound", "every claim is bound"),
        status={
            "nfsEndpoint": "here:2049",
            "server": server_status,
            "shares": [
                {"name": "export", "path": "/export", "phase": "Ready"},
                {"name": "old", "path": "/old", "phase": "Retained", "message": "it is kept"},
            ],
        },
        spec=s3(),
        pods={("media", "files-0"): pod},
        unknown=(),
        claims={
            ("media", "metadata-files-0"): Claim("metadata-files-0", "fast", "10Gi", "Bound", "10Gi"),
            ("media", "cache-files-0"): Claim("cache-files-0", "fast", "5Gi", "Bound", "5Gi"),
        },
        usages={("media", "metadata-files-0"): Usage(3, 10)},
        events=[event("Started", "Started container dittofs", type="Normal", lastTimestamp=ago(days=3), count=2)],
    )

    assert screen(shown) == [
        "DittoServer media/files is ready, for 12m",
        "",
        "  NFS is served at here:2049",
        "",
        "Next step: Nothing has to be done.",
        "",
        "Conditions",
        "  Ready              yes       12m  Available, see above",
        "  Reconciling        no        12m  nothing is being changed",
        "  Stalled            no        12m  nothing blocks the operator",
        "  StorageReady       yes       12m  every claim is bound",
        "",
        "  NFS                here:2049",
        "  Version            DittoFS 0.29.0 (Current), started 3d ago",
        "  Image              example.com/dittofs:tested",
        "  Pod                files-0 on node worker-1: Running, ready, 1 restarts, runs for 3d",
        "  Secrets            S3 credentials: s3; JWT: files-jwt-secret (generated); admin password:",
        "                     files-admin-bootstrap-credentials (generated)",
        "",
        "Volumes",
        "  metadata           [######--------------] 30% of 10  Bound, 10Gi, class fast",
        "  cache              usage unknown           Bound, 5Gi, class fast",
        "",
        "Shares",
        "  old                Retained  /old: it is kept",
        "  export             Ready     /export",
        "",
        "Events, newest first",
        "    3d    x2 Normal  Started, Pod files-0: Started container dittofs",
    ]


def test_each_endpoint_has_a_line() -> None:
    endpoints = [
        {"protocol": "nfs", "host": "files-file.media.svc", "clusterIP": "10.0.0.7", "port": 2049, "nodePort": 30049},
        {"protocol": "smb", "host": "files-file.media.svc", "externalAddress": "192.0.2.7", "port": 445},
        {"protocol": "metrics", "host": "files-metrics.media.svc", "port": 9090},
    ]
    lines = screen(make_report(status={"endpoints": endpoints, "nfsEndpoint": "files-file.media.svc:2049"}))

    assert [line for line in lines if "files-file" in line] == [
        "  NFS                files-file.media.svc:2049, 10.0.0.7 inside, port 30049 of each node",
        "  SMB                files-file.media.svc:445, 192.0.2.7 outside",
    ]


def test_a_pod_with_another_image_is_told() -> None:
    pod = {"metadata": {"name": "files-0"}, "spec": {"containers": [{"name": "dittofs", "image": "old"}]}}
    [line] = [line for line in screen(make_report(pods={("media", "files-0"): pod})) if line.startswith("  Image")]

    assert line.endswith("example.com/dittofs:tested; the pod has old")


@given(TEXTS, TEXTS, TEXTS, ANY_JSON, st.integers(0, 20))
@example("", "x" * 500, "", 10_000, 1)
@example("", "x" * 500, "", "0001-01-01T00:00:00Z", 1)
@settings(max_examples=40)
def test_no_server_needs_more_than_a_screen(reason: str, message: str, name: str, odd: Any, count: int) -> None:
    kinds = ("Ready", "Reconciling", "Stalled", "StorageReady", "CredentialsReady", "StoresReady", "More", "AndMore")
    shares = [
        {"name": f"{index}{name}"[:200], "path": message[:200], "phase": "Failed", "message": message}
        for index in range(count)
    ]
    status: Manifest = {"shares": shares, "pendingRollout": message, "nfsEndpoint": message[:1000]}
    endpoints = [{"protocol": protocol, "host": name[:200], "port": 1} for protocol in ("nfs", "smb", "api", "metrics")]
    status["endpoints"] = endpoints
    volumes = [{"name": "metadata", "phase": "Lost", "message": message, "capacity": name[:200]}]
    shown = make_report(
        *(condition(kind, "False", (reason or "x")[:1000], message) for kind in kinds),
        status={**status, "volumes": volumes, **({"server": odd} if count % 2 else {})},
        spec={**s3(), **storage(contentSize="1Gi"), "image": message[:1000]},
        claims=None,
        events=[event(reason, message, lastTimestamp=odd, count=odd, type=name) for _ in range(count)],
    )

    for columns in (60, SCREEN_COLUMNS):
        lines = screen(shown, columns=columns)
        assert len(lines) <= SCREEN_LINES
        assert all(width(line) <= columns and line.isprintable() for line in lines)
    assert all(line.isprintable() for line in screen(shown, wide=True))


def test_wide_leaves_nothing_out() -> None:
    events = [event("Failed", "word " * 100, type="Warning") for _ in range(50)]
    shown = make_report(condition("Ready", "True", "Available"), events=events)

    assert sum("Warning" in line for line in screen(shown)) < 20
    assert sum("Warning" in line for line in screen(shown, wide=True)) == 50


def test_the_overview_has_a_line_for_each_server() -> None:
    down = make_report(condition("Ready", "False", "QuotaExceeded", "exceeded quota"))
    fine = make_report(condition("Ready", "True", "Available"))
    text, wide = ([click.unstyle(line) for line in format_overview([down, fine], wide=wide)] for wide in (False, True))

    assert text == [
        "NAMESPACE   SERVER   STATE   REASON          FOR   VERSION   FULLEST   NEXT STEP",
        "media       files    Down    QuotaExceeded   12m   -         -         Raise the quota, or free some…",
        "media       files    Ready   Available       12m   -         -         Nothing has to be done.",
    ]
    assert "kubectl -n media describe resourcequotas" in wide[1]
    assert list(format_overview([])) == ["no DittoServers found"]


def test_no_line_of_the_overview_has_control_characters() -> None:
    shown = make_report(condition("Ready", "False", HOSTILE, HOSTILE), spec={"image": HOSTILE})
    hostile = replace(shown, key=(HOSTILE, HOSTILE))

    for wide in (False, True):
        assert all(click.unstyle(line).isprintable() for line in format_overview([hostile], wide=wide))


def test_each_state_has_words() -> None:
    assert STATE_WORDS.keys() == {*State}
