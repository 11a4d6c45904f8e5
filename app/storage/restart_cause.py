"""Names why the operator restarts the pod of a server. A restart is announced once, by the write that causes it."""

from dataclasses import dataclass
from enum import StrEnum

from app.storage.events import Event


class RestartCause(StrEnum):
    """The causes: few, as each is a label of a metric."""

    REQUESTED = "requested"  # An annotation of the DittoServer asks for it.
    SPEC = "spec"
    CREDENTIALS = "credentials"  # Values of Secrets that the pod consumes have changed.
    VOLUMES = "volumes"  # A volume was added, or its file system only grows while nobody uses it.
    DRIFT = "drift"  # Somebody else changed the pod template, and it is restored.
    TAKEOVER = "takeover"  # The StatefulSet comes from the Go operator.


@dataclass(frozen=True)
class Restart:
    """A restart of the pod; `why` completes the sentence "the pod restarts: "."""

    cause: RestartCause
    why: str

    @property
    def event(self) -> Event:
        return Event("Normal", "Restarting", f"the pod restarts: {self.why}")
