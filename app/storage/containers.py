"""Explains what is wrong with the containers of a server's pod, those included that others have added to it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.storage.evidence import Case, quote
from app.storage.images import MIGRATION_FAILED, explain_failed_migration
from app.storage.pod import CONTAINER, container_status
from app.storage.problem import Problem

# For these reasons a container has ended, and ends again.
CRASH_REASONS = ("CrashLoopBackOff", MIGRATION_FAILED, "InitContainerFailed", "SidecarFailed")
# The kubelet forgets earlier crashes of a container that has run for so long.
RECOVERY_TIME = timedelta(minutes=10)

_CRASHES = ("CrashLoopBackOff", "Error", "RunContainerError")
_PULLS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_STARTING = ("", "ContainerCreating", "PodInitializing")
# Nobody but the runtime has written the message of a container that ended so: it never ran.
_NEVER_RAN = ("StartError", "ContainerCannotRun")


def container_failed(case: Case) -> Problem | None:
    """Returns the problem of the first container that has one, the server's own before its sidecars."""
    # Nothing is quoted that a container itself wrote: there may be anything in it.
    for container in _containers(case):
        if container.is_fine(case.now):
            continue

        reason = container.waiting.get("reason") or ""
        if reason in _PULLS:
            return _pull_problem(container, case)
        if reason in _CRASHES or (container.ended and reason in _STARTING):
            return _crash_problem(container, reason, case)

        if reason not in _STARTING:
            why = quote(container.waiting.get("message")) or reason
            return Problem(reason, why if container.role == CONTAINER else f"{container.title}: {why}")
        if container.role == "init container" and not container.waiting:
            advice = f"kubectl logs {case.pod_name} -c {container.name} says what it does"
            message = f"pod {case.pod_name} waits for its init container {container.name} to end; {advice}"
            return Problem("PodInitializing", message)
    return None


def failed_run(pod: Mapping[str, Any]) -> tuple[str, int] | None:
    """Returns the last run of the server that ended with an error and has a log, by the pod's UID and the restarts.

    None while the server is ready: what it said before no longer matters.
    """
    status = container_status(pod)
    ended = (status.get("lastState") or {}).get("terminated") or {}
    if status.get("ready") or not ended.get("exitCode") or ended.get("reason") in _NEVER_RAN:
        return None
    return str(pod["metadata"].get("uid")), int(status.get("restartCount") or 0)


@dataclass(frozen=True)
class _Container:
    status: Mapping[str, Any]
    pod: str
    role: str

    @property
    def name(self) -> str:
        return str(self.status.get("name") or CONTAINER)

    @property
    def title(self) -> str:
        return "the server" if self.role == CONTAINER else f"{self.role} {self.name}"

    @property
    def waiting(self) -> Mapping[str, Any]:
        return self._state("waiting") or {}

    @property
    def ended(self) -> Mapping[str, Any]:
        last = (self.status.get("lastState") or {}).get("terminated")
        return self._state("terminated") or last or {}

    def is_fine(self, now: datetime) -> bool:
        """Tells whether it runs as it should or has done its work; a crash it has recovered from does not count."""
        running, terminated = self._state("running"), self._state("terminated")
        if running is None:
            return self.role == "init container" and (terminated or {}).get("exitCode") == 0
        if not (self.status.get("ready") or self.status.get("started")):
            return False

        # Between two crashes it runs for a while, and may even be ready.
        started, last = running.get("startedAt"), (self.status.get("lastState") or {}).get("terminated") or {}
        crashed_repeatedly = last.get("exitCode") and int(self.status.get("restartCount") or 0) > 1
        return not (crashed_repeatedly and started and now - datetime.fromisoformat(str(started)) < RECOVERY_TIME)

    def _state(self, name: str) -> Mapping[str, Any] | None:
        return (self.status.get("state") or {}).get(name)


def _containers(case: Case) -> Iterator[_Container]:
    """Yields the containers in the order in which they matter: init containers hold up all others."""
    spec = (case.pod or {}).get("spec") or {}
    sidecars = {
        container["name"]
        for container in spec.get("initContainers") or []
        if container.get("restartPolicy") == "Always"
    }

    for status in case.status.get("initContainerStatuses") or []:
        yield _Container(status, case.pod_name, "sidecar" if status.get("name") in sidecars else "init container")

    containers = [
        _Container(status, case.pod_name, CONTAINER if status.get("name", CONTAINER) == CONTAINER else "sidecar")
        for status in case.status.get("containerStatuses") or []
    ]
    yield from sorted(containers, key=lambda container: container.role != CONTAINER)


def _crash_problem(container: _Container, waiting: str, case: Case) -> Problem:
    reasons = {CONTAINER: "CrashLoopBackOff", "init container": "InitContainerFailed"}
    reason, ended = reasons.get(container.role, "SidecarFailed"), container.ended
    if ended.get("reason") in _NEVER_RAN or (waiting == "RunContainerError" and not ended):
        why = quote(ended.get("message") or container.waiting.get("message")) or waiting
        return Problem(reason, f"{container.title} could not be started: {why}")

    is_server = container.role == CONTAINER
    if is_server and case.migration_failed:
        image, image_id = container.status.get("image"), container.status.get("imageID")
        message = explain_failed_migration(case.server, image, image_id, case.database_image)
        return Problem(MIGRATION_FAILED, message, stalls=True)

    logs = "kubectl logs -p" if is_server else f"kubectl logs -p {container.pod} -c {container.name}"
    if not ended:
        return Problem(reason, f"{container.title} keeps ending; {logs} says why")

    why = quote(ended.get("reason") or waiting)
    message = f"{container.title} ended with exit code {ended.get('exitCode')} ({why}); {logs} says why"
    if ended.get("reason") == "OOMKilled":
        field = "spec.resources.limits.memory" if is_server else "its limit in spec.podTemplate"
        message = f"{message}; it had less memory than it needs: raise {field}"
    return Problem(reason, message)


# What a registry answers, and the cause and remedy behind it; the first that matches counts.
_PULL_CAUSES = (
    (
        re.compile(
            r"\b401\b|unauthori[sz]ed|authorization failed|authentication required|access denied|denied:|403 forbidden"
            r"|no basic auth|failed to authorize",
            re.IGNORECASE,
        ),
        "the registry refuses access, or has no such image: check its name, and that spec.imagePullSecrets names a "
        "Secret with credentials for the registry",
    ),
    (
        re.compile(r"\b429\b|toomanyrequests|too many requests", re.IGNORECASE),
        "the registry's rate limit is reached: wait, or name a Secret with credentials in spec.imagePullSecrets",
    ),
    (re.compile(r"no match for platform", re.IGNORECASE), "the image is not made for the node's platform"),
    (
        re.compile(r"x509|certificate|http response to https", re.IGNORECASE),
        "the node does not trust the registry: configure the container runtime of the node for it",
    ),
    (
        re.compile(
            r"no such host|i/o timeout|connection refused|connection reset|deadline exceeded|handshake timeout|no route"
            r"|network is unreachable|server misbehaving|\bEOF\b|\b50[0234]\b",
            re.IGNORECASE,
        ),
        "the node cannot reach the registry: check its name, DNS, and the network and proxy of the node",
    ),
    (re.compile(r"no space left", re.IGNORECASE), "the node's disk is full"),
    (
        re.compile(r"not found|manifest unknown|name unknown", re.IGNORECASE),
        "the registry has no such image or tag: check {field}",
    ),
)
_PULL_ERRORS = {
    "InvalidImageName": "this is no valid name of an image; correct it",
    "ErrImageNeverPull": "it is not on the node, and its pull policy is Never",
}
_PULL_PREFIX = re.compile(
    r'^(?:Back-off pulling image "[^"]*"(?:: ErrImagePull)?|Failed to pull image "[^"]*")(?:: |$)'
)
_PULL_SECRETS = re.compile(r"Unable to retrieve some image pull secrets \(([^)]+)\)")


def _pull_problem(container: _Container, case: Case) -> Problem:
    """Reads the container's status, where a newer kubelet says why, and otherwise the pod's Events."""
    image, whose = container.status.get("image"), "" if container.role == CONTAINER else f" of {container.title}"
    message = f"image {image}{whose} cannot be pulled"
    if cause := _PULL_ERRORS.get(container.waiting.get("reason") or ""):
        return Problem("ImagePullBackOff", f"{message}: {cause}")

    events = [event.message for event in case.newest("Failed") if event.container in ("", container.name)]
    answers = (_PULL_PREFIX.sub("", text) for text in (quote(container.waiting.get("message")), *events))
    answer = next((answer for answer in answers if answer), None)
    if answer is None:
        return Problem("ImagePullBackOff", message)

    causes = (cause for pattern, cause in _PULL_CAUSES if pattern.search(answer))
    field = "spec.image" if container.role == CONTAINER else "its image in spec.podTemplate"
    cause = next(causes, "the container runtime of the node says why").replace("{field}", field)
    for event in case.newest("FailedToRetrieveImagePullSecret"):
        if match := _PULL_SECRETS.search(event.message):
            cause = f"{cause}; these pull secrets do not exist: {match[1]}"
            break
    return Problem("ImagePullBackOff", f"{message}: {cause} ({answer.rpartition(': ')[2]})")
