"""Derives the Events of a DittoServer from a change of its status, those of each part in a module of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.storage.endpoints import exposure_events
from app.storage.events import Event, expansion_events, rollout_events, share_events, transition_events
from app.storage.images import image_events
from app.storage.outages import outage_events, recovery_events
from app.storage.spec import DittoServer
from app.storage.status import conditions
from app.storage.status_schema import ServerStatus


def status_events(
    server: DittoServer, before: Mapping[str, Any], after: Mapping[str, Any], failures: Sequence[Event] = ()
) -> tuple[Event, ...]:
    """Returns what people should learn from a change of the status; `failures` are the Events of the present outage."""
    earlier, current = conditions({"status": before}), conditions({"status": after})
    known, new = ServerStatus.read({"status": before}), ServerStatus.read({"status": after})

    # A namespace that is being deleted accepts no Events.
    if current["Ready"]["reason"] == "NamespaceTerminating":
        return ()

    events = (
        *transition_events(earlier, current),
        *expansion_events(earlier, current, after.get("volumes") or ()),
        *recovery_events(earlier, current),
        *outage_events(earlier, current, failures, was_ready=known.image_id is not None),
        *rollout_events(before, after),
        *share_events(before, after),
        *exposure_events(server, before, after),
        *image_events(known, new),
    )
    # Several conditions may have the same reason.
    return tuple(dict.fromkeys(events))
