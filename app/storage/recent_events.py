"""Selects what the cluster last reported about a server and its objects, for a person to read. Decides nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.evidence import CLAIM, POD, STATEFUL_SET, event_time
from app.storage.finding import one_line
from app.storage.objects import Owner
from app.storage.pod import pod_name
from app.storage.services import services
from app.storage.spec import KIND, DittoServer


@dataclass(frozen=True)
class RecentEvent:
    """An Event; `at` is when it was last repeated, in RFC 3339, and empty when it does not say."""

    kind: str
    name: str
    type: str
    reason: str
    message: str
    at: str
    count: int

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> "RecentEvent":
        about = manifest.get("involvedObject") or {}
        count = (manifest.get("series") or {}).get("count") or manifest.get("count")

        return cls(
            kind=_line(about.get("kind")),
            name=_line(about.get("name")),
            type=_line(manifest.get("type")),
            reason=_line(manifest.get("reason")),
            message=_line(manifest.get("message")),
            at=event_time(manifest),
            count=count if isinstance(count, int) and count > 0 else 1,
        )


def recent_events(
    manifests: Iterable[Mapping[str, Any]], server: DittoServer, claims: Iterable[str]
) -> tuple[RecentEvent, ...]:
    """Returns the Events about the server, its StatefulSet, pod, Services and volume claims, the newest first.

    An Event about an earlier object of the same name counts: it may tell why that object is gone.
    """
    name = server.metadata.name
    owner = Owner(name, server.metadata.namespace or "")
    objects = {(KIND, name), (STATEFUL_SET, name), (POD, pod_name(name)), *((CLAIM, claim) for claim in claims)}
    objects |= {("Service", service["metadata"]["name"]) for service in services(owner, server.spec)}

    events = (RecentEvent.read(manifest) for manifest in manifests)
    related = [event for event in events if (event.kind, event.name) in objects]
    return tuple(sorted(related, key=lambda event: event.at, reverse=True))


def _line(text: object) -> str:
    return " ".join(one_line(str(text or "")).split())
