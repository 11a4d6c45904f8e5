"""Derives the Events about what keeps a server from serving, and about its recovery, from changes of its conditions."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from app.storage.events import Conditions, Event, is_new
from app.storage.pause import PAUSED
from app.storage.reasons import BY_NAME
from app.storage.stores import NO_SHARE
from app.storage.volume_states import Phase

AVAILABLE, NOT_READY = "Available", "NotReady"
# Reasons of Ready that only say that something is under way, or as it should be.
PROGRESS = (
    AVAILABLE,
    "ClaimPending",
    "NamespaceTerminating",
    PAUSED,
    "PodInitializing",
    "PodStarting",
    "StatefulSetTerminating",
    "Stopped",
    "Stopping",
)
# Conditions with the status at which nothing is wrong, and reasons besides of which no Event tells that they are over.
_GOOD = {"StorageReady": "True", "CredentialsReady": "True", "StoresReady": "True", "Stalled": "False"}
_HARMLESS = (NO_SHARE, "NotRead", "ClaimPending", PAUSED, *Phase)

# What flaps must not keep other Events from being sent: one outage has so many Events about its causes.
MAX_FAILURES = 5
# A pod that restarts as planned is back before.
LONG_OUTAGE_SECONDS = 300.0


def failures_before(before: Conditions, remembered: Sequence[Event]) -> tuple[Event, ...]:
    """Returns the failures of the present outage: those remembered, or else that in the conditions."""
    ready = before.get("Ready") or {}
    if ready.get("status") != "False":
        # Another replica may have seen the end of the outage.
        return ()
    return tuple(remembered) if remembered or ready["reason"] in PROGRESS else (_failure(ready),)


def failures_after(after: Conditions, failures: Sequence[Event], events: Sequence[Event]) -> tuple[Event, ...]:
    """Returns the failures of the outage that lasts, by those of before and the Events since; none once it is over."""
    ready = after["Ready"]
    if ready["status"] == "True":
        return ()
    return (*failures, *(event for event in events if event == _failure(ready)))


def outage_events(
    before: Conditions, after: Conditions, failures: Sequence[Event], *, was_ready: bool
) -> Iterator[Event]:
    """Yields each new failure of an outage, which is a warning, or its end.

    `was_ready` says that the server has been ready once, long ago or not.
    """
    ready, earlier = after["Ready"], before.get("Ready") or {}
    if ready["status"] != "True":
        failure = _failure(ready)
        is_known = failure in failures or len(failures) >= MAX_FAILURES
        if ready["reason"] not in PROGRESS and not is_known and is_new(ready, earlier):
            yield failure
        return

    if ready["reason"] != AVAILABLE or earlier.get("reason") == AVAILABLE:
        return

    seconds = _seconds_between(earlier, ready)
    if failures:
        yield Event("Normal", "Recovered", f"{ready['message']}, after {_roughly(seconds)} of {failures[-1].reason}")
    elif was_ready and seconds >= LONG_OUTAGE_SECONDS:
        yield Event("Normal", "Recovered", f"{ready['message']}, after {_roughly(seconds)}")
    else:
        yield Event("Normal", AVAILABLE, ready["message"])


def recovery_events(before: Conditions, after: Conditions) -> Iterator[Event]:
    """Yields what else than Ready is in order again. What kept the server from being ready ends with that outage."""
    # Nothing is judged while a server is paused.
    if PAUSED in (after["Reconciling"]["reason"], (before.get("Reconciling") or {}).get("reason")):
        return

    harmless = {*_HARMLESS, (before.get("Ready") or {}).get("reason")}
    for kind, good in _GOOD.items():
        condition, earlier = after.get(kind), before.get(kind)
        if condition is None or earlier is None or condition["status"] != good or earlier["status"] == good:
            continue

        # What stores are like is not known before a server was asked.
        if earlier["reason"] not in harmless and (kind, earlier["status"]) != ("StoresReady", "Unknown"):
            text = condition["message"] or "nothing blocks the operator any more"
            why = f"{_roughly(_seconds_between(earlier, condition))} of {earlier['reason']}"
            yield Event("Normal", "Recovered", f"{text}, after {why}")


def _failure(ready: Mapping[str, Any]) -> Event:
    """Returns the Event about why a server is not ready; reasons of other programs could be any text."""
    return Event("Warning", ready["reason"] if ready["reason"] in BY_NAME else NOT_READY, ready["message"])


def _seconds_between(earlier: Mapping[str, Any], condition: Mapping[str, Any]) -> float:
    """Returns for how long the condition had its earlier status; the status may have any text instead of a time."""
    try:
        since = datetime.fromisoformat(earlier["lastTransitionTime"])
        return max((datetime.fromisoformat(condition["lastTransitionTime"]) - since).total_seconds(), 0.0)
    except (KeyError, TypeError, ValueError):
        return 0.0


def _roughly(seconds: float) -> str:
    """Returns a length of time in so few words that the Events of similar outages are the same."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        minutes = minutes if minutes < 10 else minutes // 10 * 10
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"

    hours = minutes // 60
    return f"about {hours} hours" if hours < 48 else f"about {hours // 24} days"
