import json
from datetime import UTC, datetime

from app.cli.output import format_json
from app.cli.server_report import PodReport, as_json, mask_events, report
from app.cluster.survey import Survey
from app.storage.facts import Claim
from app.storage.secret_mask import SecretMask
from app.storage.unstructured import Manifest
from app.storage.usage import Usage
from tests.harness.server_table import s3, server

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)
SINCE = "2026-02-01T11:00:00Z"
POD: Manifest = {
    "metadata": {"name": "files-0"},
    "spec": {"nodeName": "worker-1", "containers": [{"name": "sidecar"}, {"name": "dittofs", "image": "dittofs:1"}]},
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "sidecar", "restartCount": 9},
            {"name": "dittofs", "restartCount": 2, "imageID": "d@sha256:1", "state": {"running": {"startedAt": SINCE}}},
        ],
    },
}


def manifest(name: str, reason: str, since: str = SINCE) -> Manifest:
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": "why", "lastTransitionTime": since}
    metadata = {"name": name, "namespace": "media", "generation": 1}
    return {**server(**s3()), "metadata": metadata, "status": {"observedGeneration": 1, "conditions": [ready]}}


def survey_of(*manifests: Manifest) -> Survey:
    claims = {("media", "cache-files-0"): Claim("cache-files-0", "fast", "5Gi", "Bound", "5Gi")}
    return Survey(
        servers={("media", item["metadata"]["name"]): item for item in manifests},
        claims=claims,
        pods={("media", "files-0"): POD},
        usages={("media", "cache-files-0"): Usage(1, 4)},
    )


def test_the_pod_is_that_of_the_server() -> None:
    pod = PodReport.read(POD)

    assert (pod.name, pod.node, pod.phase, pod.ready) == ("files-0", "worker-1", "Running", True)
    assert (pod.restarts, pod.started_at, pod.image, pod.image_id) == (2, SINCE, "dittofs:1", "d@sha256:1")


def test_a_pod_that_nobody_reports_on_is_pending() -> None:
    pod = PodReport.read({"metadata": {"name": "files-0"}})
    assert (pod.phase, pod.ready, pod.node, pod.image) == ("Pending", False, None, None)

    leaving = PodReport.read({"metadata": {"name": "files-0", "deletionTimestamp": SINCE}})
    assert leaving.phase == "Terminating"


def test_the_worst_server_comes_first_and_then_the_oldest() -> None:
    servers = [
        manifest("starting", "PodStarting", "2026-02-01T11:59:00Z"),
        manifest("later", "QuotaExceeded"),
        manifest("earlier", "QuotaExceeded", "2026-02-01T10:00:00Z"),
    ]
    live = survey_of(*servers)
    reports = sorted((report(live, key, NOW) for key in live.servers), key=lambda item: item.rank)

    assert [item.key[1] for item in reports] == ["earlier", "later", "starting"]


def test_programs_get_everything() -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "files-0"},
        "reason": "Failed",
        "type": "Warning",
        "message": "no",
        "lastTimestamp": SINCE,
    }
    result = report(survey_of(manifest("files", "QuotaExceeded")), ("media", "files"), NOW, [event])
    [shown] = json.loads(format_json([as_json(result)]))

    assert (shown["namespace"], shown["server"], shown["state"]) == ("media", "files", "Down")
    assert shown["nextStep"] == {
        "text": "Raise the quota, or free some of it.",
        "command": "kubectl -n media describe resourcequotas",
    }
    assert shown["conditions"][0]["reason"] == shown["reason"] == "QuotaExceeded"
    assert shown["pod"]["restarts"] == 2
    assert [(volume["volume"], volume["usedBytes"]) for volume in shown["volumes"]] == [
        ("metadata", None),
        ("cache", 1),
    ]
    assert shown["secrets"][0] == {"purpose": "S3 credentials", "name": "s3", "generated": False}
    assert shown["secrets"][1]["generated"]
    assert shown["events"][0]["reason"] == "Failed"


def test_a_server_without_a_pod_has_none() -> None:
    live = survey_of(manifest("other", "QuotaExceeded"))
    assert as_json(report(live, ("media", "other"), NOW))["pod"] is None


def test_messages_of_events_are_masked() -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "files-0"},
        "message": "login with password: hunter22",
    }
    result = report(survey_of(manifest("files", "QuotaExceeded")), ("media", "files"), NOW, [event])

    assert "hunter22" in result.events[0].message
    assert mask_events(result, SecretMask()).events[0].message == "login with password: ********"
