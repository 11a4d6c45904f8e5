"""Whoever is woken at night finds the cause of an incident, and what to do, on the first screen.

The screen is that of `kubectl dittofs status`, or of `kubectl describe`. The guide shows the screens as these tests saw
them; `GALLERY=write pytest tests/test_incidents.py` writes them anew.
"""

import asyncio
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from app.cli.options import Scope
from app.cli.screen import SCREEN_COLUMNS, SCREEN_LINES, format_screen
from app.cli.server_report import ServerReport
from app.cli.status import make_reports
from app.storage.next_step import State
from tests.controlplane.cluster import ControlPlane
from tests.harness import incidents
from tests.harness.guides import GUIDES
from tests.harness.incidents import Place, Stage
from tests.harness.reconciler_namespace import connect
from tests.harness.volume_driver import VolumeDriver
from tests.harness.wait import until
from tests.prometheus.rules import NAMESPACE, RELEASE, rendered_rules, run_promtool, write_rules
from tests.prometheus.timeline import STEPS_PER_MINUTE, Moment, input_series

GALLERY = GUIDES / "twelve-incidents.md"
# Commands that only show something: they have to work as they are printed.
READS = ("get", "describe", "dittofs")


@dataclass(frozen=True)
class Incident:
    """What the top of the screen has to say: the `cause` and the `remedy`, both in words, and a `command`.

    `described` is in the conditions and Events, for those who have only kubectl; empty where these cannot know it.
    `alerts` are all that fire, and empty where nobody has to be woken.
    """

    title: str
    stage: Stage
    state: State
    reason: str
    cause: tuple[str, ...]
    remedy: str
    command: str
    described: tuple[str, ...]
    alerts: tuple[str, ...]


INCIDENTS = (
    Incident(
        "A quota",
        incidents.quota,
        State.DOWN,
        "QuotaExceeded",
        ("pod files-0 cannot be created", "exceeded quota: team"),
        "Raise the quota, or free some of it.",
        "kubectl -n {namespace} describe resourcequotas",
        ("pod files-0 cannot be created: exceeded quota: team", "raise ResourceQuota team, or free some of it"),
        ("DittofsServerNotReady",),
    ),
    Incident(
        "A lost node",
        incidents.lost_node,
        State.DOWN,
        "NodeLost",
        ("node node-{namespace} has not answered since", "whether pod files-0 has ended"),
        "Bring the node back. Only if its machine is surely powered off, mark it as out of service",
        "kubectl get nodes",
        (
            "node node-{namespace} has not answered since",
            "Bring the node back",
            "kubectl taint nodes node-{namespace} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute; "
            "remove the taint once the node is back",
        ),
        ("DittofsServerNotReady",),
    ),
    Incident(
        "A rejected key",
        incidents.rejected_key,
        State.DEGRADED,
        "CredentialsRejected",
        ('S3 Secret "s3" with bucket dittofs', "the server's own check fails"),
        "Correct the Secret that the message names, the bucket or its policy.",
        "kubectl dittofs credentials -n {namespace} files",
        ('S3 Secret "s3" with bucket dittofs', "put keys into it that the bucket accepts"),
        ("DittofsCredentialsNotReady",),
    ),
    Incident(
        "A full disk",
        incidents.full_disk,
        State.DEGRADED,
        "VolumeFull",
        ("volume metadata is full, so that the server cannot write", "10Gi of 10Gi are in use"),
        "Raise storage.metadataSize, or delete what nobody needs.",
        "kubectl -n {namespace} edit dittoserver files",
        (),  # Only the kubelet knows.
        ("DittofsVolumeNearlyFull",),
    ),
    Incident(
        "A rejected resize",
        incidents.rejected_resize,
        State.BLOCKED,
        "ResizeRefused",
        ("storage.cacheSize 20Gi is refused", "cache-files-0 stays at 5Gi", "no volume has more than 8Gi"),
        "Set one of the sizes that the message names.",
        "kubectl -n {namespace} edit dittoserver files",
        ("storage.cacheSize 20Gi is refused", "no volume has more than 8Gi", "ask for 5Gi or more, and less than 20Gi"),
        ("DittofsVolumeExpansionRejected",),
    ),
    Incident(
        "A name conflict",
        incidents.name_conflict,
        State.DOWN,
        "NameTaken",
        ("ConfigMap files-config exists and is not this server's",),
        "Delete or rename that object, or give the server another name.",
        "kubectl -n {namespace} get sts,svc,cm,secret --show-labels",
        ("ConfigMap files-config exists", "kubectl -n {namespace} describe configmap files-config"),
        ("DittofsServerNotReady",),
    ),
    Incident(
        "The webhook is down",
        incidents.webhook_down,
        State.BLOCKED,
        "WebhookDown",
        (
            "the API server cannot call webhook validate.dittofs.dittofs.com",
            "connection refused; no DittoServer can be created, and no spec can be changed",
        ),
        "See whether the operator runs, and why it is not ready.",
        "kubectl -n {namespace} describe pods -l app.kubernetes.io/name=dittofs-operator",
        (),  # Nobody is left who could write a condition.
        ("DittofsOperatorDown",),
    ),
    Incident(
        "The certificate has expired",
        incidents.expired_certificate,
        State.BLOCKED,
        "CertificateExpired",
        (
            "the API server cannot call webhook validate.dittofs.dittofs.com",
            "x509: certificate has expired",
            "no DittoServer can be created, and no spec can be changed",
        ),
        "Renew the certificate of the operator (docs/how-to/manage-certificates.md#the-certificate-has-expired).",
        "kubectl -n {namespace} get events --sort-by=.lastTimestamp",
        (),  # It is no matter of a single server.
        ("DittofsCertificateRenewalOverdue",),
    ),
    Incident(
        "A wrong image",
        incidents.wrong_image,
        State.DOWN,
        "ImagePullBackOff",
        ("image registry.example.com/dittofs:lates cannot be pulled", "the registry has no such image or tag"),
        "Fix spec.image",
        "kubectl -n {namespace} edit dittoserver files",
        ("image registry.example.com/dittofs:lates cannot be pulled", "check spec.image"),
        ("DittofsServerNotReady",),
    ),
    Incident(
        "A volume claim that is being deleted",
        incidents.terminating_claim,
        State.DEGRADED,
        "ClaimTerminating",
        ("volume claim metadata-files-0 is being deleted", "its data may be lost when the pod ends"),
        "Do not restart the pod. Recover the claim (docs/how-to/recover-a-volume-claim.md) first.",
        "kubectl -n {namespace} describe pvc -l app=dittofs-server,instance=files",
        ("volume claim metadata-files-0 is being deleted", "to keep the data, run: kubectl patch persistentvolume"),
        ("DittofsVolumeClaimTerminating",),
    ),
    Incident(
        "A paused server",
        incidents.paused,
        State.PAUSED,
        "Paused",
        ('annotation dittofs.io/paused is "true", so the operator changes nothing',),
        "Remove the annotation to resume",
        "kubectl -n {namespace} annotate dittoserver files dittofs.io/paused-",
        ("so the operator changes nothing", "to resume, run: kubectl annotate dittoserver files"),
        (),
    ),
    Incident(
        "Invalid resources",
        incidents.invalid_resources,
        State.DOWN,
        "SectionRejected",
        ("no pod can be created: resources.limits[memory] must be a quantity, such as 500m or 2Gi",),
        "Correct the field that the message names.",
        "kubectl -n {namespace} edit dittoserver files",
        ("no pod can be created: resources.limits[memory] must be a quantity, such as 500m or 2Gi",),
        ("DittofsServerNotReady",),
    ),
)


@pytest.fixture
def place(
    control_plane: ControlPlane,
    crd: None,
    namespace: str,
    driver: VolumeDriver,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Place:
    return Place(control_plane, namespace, tmp_path, driver, lambda: request.getfixturevalue("standin"))


def look(place: Place, after: timedelta = timedelta()) -> tuple[ServerReport, list[str]]:
    """Returns what is known about the server, and the screen that a person sees so long after now."""

    async def ask() -> ServerReport:
        async with connect(place.control_plane) as cluster:
            scope = Scope(place.namespace, ("files",))
            [report], _ = await make_reports(cluster, scope, datetime.now(UTC) + after, cluster.stats)
            return report

    report = asyncio.run(ask())
    lines = [click.unstyle(line) for line in format_screen(report)]
    print("\n".join(lines))  # A person should judge it, too: pytest -s shows the screens.

    assert len(lines) <= SCREEN_LINES
    assert [line for line in lines if len(line) > SCREEN_COLUMNS or not line.isprintable()] == []
    return report, lines


def joined(text: str) -> str:
    """Returns the text in one line, with the commands in one piece that the screen breaks."""
    return " ".join(text.replace(" \\\n", " ").split())


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.title)
def test_the_first_screen_has_cause_and_remedy(incident: Incident, place: Place) -> None:
    def fill_in(text: str) -> str:
        return text.replace("{namespace}", place.namespace)

    with incident.stage(place) as scrape:
        # The operator observes its own writes a moment later.
        until(lambda: not why_other_alerts_fire(scrape(), incident.alerts, place.folder), pause=0.5)
        report, lines = look(place)
        described = place.control_plane.kubectl("-n", place.namespace, "describe", "dittoserver", "files").stdout
        command = shlex.split(report.concern.step.command or "")
        if set(command) & set(READS):
            place.control_plane.kubectl(*without_plugin(command))

    top = joined("\n".join(lines[: lines.index("Conditions")]))
    assert (report.concern.state, report.concern.reason) == (incident.state, incident.reason)
    assert [text for text in (*incident.cause, incident.remedy, incident.command) if fill_in(text) not in top] == []
    assert [text for text in incident.described if fill_in(text) not in described] == []
    assert "marker-" not in described + "\n".join(lines)
    compare_with_gallery(incident, place, lines)


def test_of_two_incidents_the_first_to_fix_comes_first(place: Place) -> None:
    """A full disk ends the server, and no crash is to be looked for in its log before."""
    with incidents.full_disk(place), incidents.crashed(place):
        report, lines = look(place)

    assert [concern.reason for concern in report.concerns][:2] == ["VolumeFull", "CrashLoopBackOff"]
    assert lines[0].startswith(f"DittoServer {place.namespace}/files is down: VolumeFull")


def test_a_server_of_two_incidents_has_to_be_resumed_first(place: Place) -> None:
    with incidents.paused(place), incidents.crashed(place):
        report, lines = look(place)

    assert [concern.reason for concern in report.concerns][:2] == ["Paused", "CrashLoopBackOff"]
    assert lines[0].startswith(f"DittoServer {place.namespace}/files is down: Paused")


def test_an_operator_that_stays_down_is_the_first_to_fix(place: Place) -> None:
    with incidents.webhook_down(place), incidents.ended_pod(place):
        report, lines = look(place, timedelta(minutes=5))

    top = joined("\n".join(lines[: lines.index("Conditions")]))
    assert lines[0] == f"DittoServer {place.namespace}/files is down: OperatorDown, for 5m"
    assert f"no pod of the operator is ready behind Service {place.namespace}/operator: nothing is reconciled" in top
    assert [concern.reason for concern in report.concerns][:2] == ["OperatorDown", "OperatorBehind"]


def why_other_alerts_fire(served: str, alerts: tuple[str, ...], folder: Path) -> str:
    """Returns what promtool says unless exactly these alerts fire after scraping this for 40 minutes."""
    moment = Moment(41, {"dittofs-operator-a": served} if served else {}, "" if served else "up 0\n")
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts]
    firing = 'group by (alertname) (ALERTS{alertstate="firing"})'
    test = {
        "interval": f"{60 // STEPS_PER_MINUTE}s",
        "start_timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "input_series": list(input_series([moment], RELEASE, NAMESPACE)),
        "promql_expr_test": [{"expr": firing, "eval_time": "40m", "exp_samples": samples}],
    }
    file = folder / "test.yaml"
    rules = write_rules(folder, rendered_rules())
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": test["interval"], "tests": [test]}))

    process = run_promtool("test", "rules", file)
    return process.stdout + process.stderr if process.returncode else ""


def without_plugin(command: list[str]) -> list[str]:
    """Returns the arguments of kubectl; those of the plugin are tested where its commands are."""
    [program, *arguments] = command
    assert program == "kubectl"
    return ["version"] if arguments[0] == "dittofs" else arguments


def compare_with_gallery(incident: Incident, place: Place, lines: list[str]) -> None:
    block = "\n".join(["$ kubectl dittofs status files", *normalized(lines, place.namespace)])
    section = f"## {incident.title}\n"
    text = GALLERY.read_text()
    [row] = [line for line in text.splitlines() if line.startswith(f"| [{incident.title}]")]
    assert f"`{incident.reason}`" in row
    assert re.findall(r"`(Dittofs\w+)`", row) == [*incident.alerts]

    before, _, rest = text.partition(section)
    shown = re.search(r"```console\n(.*?)\n```", rest, re.DOTALL)
    assert shown
    if os.environ.get("GALLERY") == "write":
        GALLERY.write_text(before + section + rest.replace(shown[1], block, 1))
    else:
        assert shown[1] == block


def normalized(lines: list[str], namespace: str) -> Iterator[str]:
    """Yields the lines up to the end of the conditions, with what differs from run to run replaced."""
    replacements: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
        (r"(?:node|full)-" + namespace, "node-7"),
        (
            r"(?:Service|kubectl -n) " + namespace + r"(?=/operator| describe pods| get events)",
            lambda match: match[0].replace(namespace, "dittofs-system"),
        ),
        (namespace, "media"),
        (r"dial tcp \S+:\d+:", "dial tcp 10.96.0.9:443:"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-11-27T03:00:00Z"),
        (r"is after [^;]+", "is after 2026-11-26T21:30:00Z"),
        (r"persistentvolume [0-9a-f-]{36}", "persistentvolume pvc-1"),
        (r"(?<=[a-z]) +\d+[smhd]  ", lambda match: f"{'3m':>{len(match[0]) - 2}}  "),
        (r"(?<=for )\d+[smhd]\b", "3m"),
        # Nothing runs in these pods, which the operator knows after three attempts.
        (r"ServerUnreachable: .*", "NotRunning: the server is asked about its shares and stores onc…"),
    )
    end = lines.index("", lines.index("Conditions"))
    for line in lines[:end]:
        text = line
        for pattern, replacement in replacements:
            text = re.sub(pattern, replacement, text)
        yield text.rstrip()
