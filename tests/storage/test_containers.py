from datetime import UTC, datetime
from typing import Any

import pytest

from app.storage.containers import container_failed, failed_run
from app.storage.evidence import Case, WarningEvent
from app.storage.unstructured import Manifest
from tests.harness.warning_events import warning

NOW = datetime(2026, 11, 27, 4, 0, tzinfo=UTC)
UID = "899ba4ed-10e5-48c7-a5c0-dbe9b0f8b041"
FINE = {"name": "dittofs", "ready": True, "started": True, "state": {"running": {"startedAt": "2026-11-01T00:00:00Z"}}}
ENDED = {"terminated": {"exitCode": 3, "reason": "Error", "message": "password is hunter2"}}
BACKED_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container=proxy"}}


def diagnosed(
    *containers: Manifest,
    init: list[Manifest] | None = None,
    sidecars: tuple[str, ...] = (),
    warnings: tuple[WarningEvent, ...] = (),
) -> tuple[str, str]:
    spec = {"initContainers": [{"name": name, "restartPolicy": "Always"} for name in sidecars]}
    status = {"containerStatuses": list(containers), "initContainerStatuses": init or []}
    problem = container_failed(Case("files", {"spec": spec, "status": status}, NOW, warnings))
    return (problem.reason, problem.message) if problem else ("", "")


def waiting(name: str, reason: str, message: str = "", **more: Any) -> Manifest:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}, **more}


SETTING_UP = waiting("dittofs", "PodInitializing")


def test_a_crashing_sidecar_is_named() -> None:
    expected = (
        "SidecarFailed",
        "sidecar proxy ended with exit code 3 (Error); kubectl logs -p files-0 -c proxy says why",
    )
    proxy = {"name": "proxy", "state": BACKED_OFF, "lastState": ENDED, "restartCount": 4}
    starting = {**FINE, "ready": False, "started": False}
    for server in (FINE, starting, waiting("dittofs", "ContainerCreating")):
        assert diagnosed(proxy, server) == expected
        assert diagnosed(server, proxy) == expected

    assert diagnosed(SETTING_UP, init=[proxy], sidecars=("proxy",)) == expected


def test_a_crash_of_the_server_counts_before_a_sidecar() -> None:
    proxy = {"name": "proxy", "state": BACKED_OFF, "lastState": ENDED}
    server = {"name": "dittofs", "state": BACKED_OFF, "lastState": ENDED}
    reason, message = diagnosed(proxy, server)

    assert (reason, message) == (
        "CrashLoopBackOff",
        "the server ended with exit code 3 (Error); kubectl logs -p says why",
    )


DIGEST = f"docker.io/dittofs@sha256:{'a' * 64}"


def test_a_failed_migration_names_the_image_to_go_back_to() -> None:
    server = {"name": "dittofs", "image": "dittofs:2", "state": BACKED_OFF, "lastState": ENDED, "restartCount": 4}
    case = Case("files", {"status": {"containerStatuses": [server]}}, NOW, migration_failed=True, database_image=DIGEST)

    problem = container_failed(case)

    assert problem
    assert (problem.reason, problem.stalls) == ("DatabaseMigrationFailed", True)
    assert problem.message.startswith(f"image dittofs:2 failed to migrate the database; {DIGEST} can open it: kubectl ")
    assert "hunter2" not in problem.message


def test_a_migration_is_no_matter_of_a_sidecar() -> None:
    proxy = {"name": "proxy", "state": BACKED_OFF, "lastState": ENDED}
    problem = container_failed(
        Case("files", {"status": {"containerStatuses": [proxy, FINE]}}, NOW, migration_failed=True)
    )

    assert problem
    assert problem.reason == "SidecarFailed"


@pytest.mark.parametrize(
    ("container", "run"),
    [
        ({"state": BACKED_OFF, "lastState": ENDED, "restartCount": 4}, (UID, 4)),
        ({"state": {"running": {}}, "lastState": ENDED, "restartCount": 1}, (UID, 1)),
        ({"state": {"running": {}}, "lastState": ENDED, "restartCount": 1, "ready": True}, None),
        ({"state": ENDED, "restartCount": 0}, None),
        ({"state": BACKED_OFF, "lastState": {"terminated": {"exitCode": 0}}, "restartCount": 4}, None),
        ({"state": BACKED_OFF, "lastState": {"terminated": {"exitCode": 128, "reason": "StartError"}}}, None),
        ({"state": BACKED_OFF, "lastState": ENDED, "restartCount": 4, "name": "proxy"}, None),
    ],
    ids=["backed off", "runs again", "ready", "no earlier run", "ended well", "never ran", "a sidecar"],
)
def test_only_a_run_that_ended_with_an_error_has_a_log(container: Manifest, run: tuple[str, int] | None) -> None:
    pod = {"metadata": {"uid": UID}, "status": {"containerStatuses": [{"name": "dittofs", **container}]}}

    assert failed_run(pod) == run
    assert failed_run({"metadata": {}}) is None


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (
            {"name": "wait", "state": ENDED},
            "InitContainerFailed",
            "init container wait ended with exit code 3 (Error); kubectl logs -p files-0 -c wait says why",
        ),
        (
            {"name": "wait", "state": BACKED_OFF, "lastState": ENDED},
            "InitContainerFailed",
            "init container wait ended with exit code 3 (Error); kubectl logs -p files-0 -c wait says why",
        ),
        (
            {"name": "wait", "state": {"running": {"startedAt": "2026-11-27T03:00:00Z"}}},
            "PodInitializing",
            "pod files-0 waits for its init container wait to end; kubectl logs files-0 -c wait says what it does",
        ),
        (
            waiting("wait", "CreateContainerConfigError", 'secret "db" not found'),
            "CreateContainerConfigError",
            'init container wait: secret "db" not found',
        ),
        (
            waiting("wait", "ImagePullBackOff", image="db:1"),
            "ImagePullBackOff",
            "image db:1 of init container wait cannot be pulled",
        ),
    ],
)
def test_a_failing_init_container_is_named(status: Manifest, reason: str, message: str) -> None:
    done = {"name": "first", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}

    assert diagnosed(SETTING_UP, init=[done, status]) == (reason, message)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            {"name": "dittofs", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
            "the server ended with exit code 137 (OOMKilled); kubectl logs -p says why; it had less memory than it "
            "needs: raise spec.resources.limits.memory",
        ),
        (
            waiting(
                "dittofs",
                "RunContainerError",
                f'failed to start containerd task "{"0a" * 32}": exec: "dfs": executable file not found in $PATH',
            ),
            'the server could not be started: failed to start containerd task "…": exec: "dfs": executable file not '
            "found in $PATH",
        ),
        (
            {
                "name": "dittofs",
                "state": BACKED_OFF,
                "lastState": {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such file"}},
            },
            "the server could not be started: no such file",
        ),
        ({"name": "dittofs", "state": BACKED_OFF}, "the server keeps ending; kubectl logs -p says why"),
    ],
)
def test_how_the_server_ended_is_told(server: Manifest, message: str) -> None:
    assert diagnosed(server) == ("CrashLoopBackOff", message)


def test_what_a_container_wrote_is_never_quoted() -> None:
    for name in ("dittofs", "proxy"):
        assert "hunter2" not in diagnosed({"name": name, "state": ENDED})[1]


def test_a_repeated_crash_keeps_its_message() -> None:
    """As a kubelet reports them: ended, backed off, running again, each time later and more often."""

    def attempts(name: str, *, started: bool) -> set[tuple[str, str]]:
        return {
            diagnosed({"name": name, "restartCount": count, "ready": started, "started": started, **state}, SETTING_UP)
            for count in (2, 3, 4)
            for state in (
                {"state": ENDED, "ready": False},
                {"state": BACKED_OFF, "lastState": ENDED, "ready": False},
                {"state": {"running": {"startedAt": f"2026-11-27T03:5{count}:00Z"}}, "lastState": ENDED},
            )
        }

    # A sidecar without probes is ready as soon as it runs.
    assert len(attempts("proxy", started=True)) == 1
    assert len(attempts("dittofs", started=False)) == 1


def test_a_crash_long_ago_explains_nothing() -> None:
    recovered = {**FINE, "ready": False, "lastState": ENDED, "restartCount": 9}

    assert diagnosed(recovered) == ("", "")
    assert diagnosed({**FINE, "lastState": ENDED, "restartCount": 1}) == ("", "")


IMAGE = "registry.example.com/dittofs:1"
PULLING = f'Back-off pulling image "{IMAGE}"'
HEAD = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
DENIED = f"{HEAD}unexpected status from HEAD request to https://registry.example.com/v2/: 401 Unauthorized"


def pulled(message: str, reason: str = "ImagePullBackOff", *warnings: WarningEvent) -> str:
    kind, text = diagnosed(waiting("dittofs", reason, message, image=IMAGE), warnings=warnings)
    assert kind == "ImagePullBackOff"
    assert text.startswith(f"image {IMAGE} cannot be pulled")
    return text


@pytest.mark.parametrize(
    ("why", "messages"),
    [
        (DENIED, ["the registry refuses access", "imagePullSecrets", "(401 Unauthorized)"]),
        (
            f"{HEAD}pull access denied, repository does not exist or may require authorization: server message: "
            "insufficient_scope: authorization failed",
            ["the registry refuses access, or has no such image", "(authorization failed)"],
        ),
        (f"{HEAD}{IMAGE}: not found", ["has no such image or tag: check spec.image", "(not found)"]),
        (f"rpc error: code = NotFound desc = {HEAD}{IMAGE}: not found", ["has no such image or tag"]),
        (f'failed to pull and unpack image "{IMAGE}": no match for platform in manifest: not found', ["platform"]),
        (
            f'{HEAD}failed to do request: Head "https://registry.example.com/v2/": dial tcp: lookup registry '
            "on 10.96.0.10:53: no such host",
            ["cannot reach the registry: check its name, DNS", "(no such host)"],
        ),
        (f"{HEAD}failed to do request: Head: dial tcp 173.194.174.82:443: i/o timeout", ["cannot reach the registry"]),
        (f"{HEAD}tls: failed to verify certificate: x509: certificate signed by unknown authority", ["does not trust"]),
        (f"{HEAD}http: server gave HTTP response to HTTPS client", ["does not trust the registry"]),
        (f"{HEAD}429 Too Many Requests - Server message: toomanyrequests: You have reached it", ["rate limit"]),
        (f"{HEAD}write /var/lib/containerd: no space left on device", ["the node's disk is full"]),
        (f"{HEAD}something new", ["the container runtime of the node says why (something new)"]),
    ],
)
def test_a_registrys_answer_is_told_with_its_remedy(why: str, messages: list[str]) -> None:
    texts = {pulled(why, "ErrImagePull"), pulled(f"{PULLING}: ErrImagePull: {why}")}
    # An older kubelet says it in an Event only.
    texts.add(pulled(PULLING, "ImagePullBackOff", warning(f'Failed to pull image "{IMAGE}": {why}', "Failed")))
    [text] = texts

    assert [message for message in messages if message not in text] == []


def test_a_pull_secret_that_does_not_exist_is_named() -> None:
    missing = "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."
    text = pulled(DENIED, "ErrImagePull", warning(missing, "FailedToRetrieveImagePullSecret"))

    assert "these pull secrets do not exist: regcred" in text


@pytest.mark.parametrize(
    ("reason", "message"), [("InvalidImageName", "no valid name"), ("ErrImageNeverPull", "pull policy is Never")]
)
def test_an_image_that_nobody_pulls_says_why(reason: str, message: str) -> None:
    assert message in pulled("", reason)


def test_without_an_answer_of_the_registry_no_cause_is_given() -> None:
    assert pulled(PULLING) == f"image {IMAGE} cannot be pulled"


def test_the_uid_of_the_pod_is_left_out() -> None:
    why = f'container has runAsNonRoot and image will run as root (pod: "files-0_here({UID})", container: dittofs)'
    diagnosis = diagnosed(waiting("dittofs", "CreateContainerConfigError", why))

    assert diagnosis == ("CreateContainerConfigError", why.replace(UID, "…"))


def test_the_field_of_a_sidecars_image_is_named() -> None:
    why = f"{HEAD}{IMAGE}: not found"
    kind, text = diagnosed(FINE, waiting("proxy", "ErrImagePull", why, image=IMAGE))

    assert kind == "ImagePullBackOff"
    assert "of sidecar proxy cannot be pulled" in text
    assert "check its image in spec.podTemplate" in text


def test_a_sidecar_without_enough_memory_names_its_limit() -> None:
    killed = {**ENDED, "terminated": {**ENDED["terminated"], "reason": "OOMKilled"}}
    crashing = {**waiting("proxy", "CrashLoopBackOff", ""), "lastState": killed}

    assert "raise its limit in spec.podTemplate" in diagnosed(FINE, crashing)[1]
