"""Errors of the Kubernetes API, and which of them an answer stands for. No message quotes the data of an object."""

import re
from collections.abc import Sequence
from typing import Any

from app.storage.facts import Cause

_MESSAGE_CHARACTERS = 400
_UNDECODABLE = re.compile(r'\S+ in version "[^"]*" cannot be handled as a \S+: (.*)', re.DOTALL)
_UNKNOWN_FIELD = re.compile(r'unknown field "(.*?)"(?=, (?:unknown|duplicate) field "|$)', re.DOTALL)


class ClusterError(Exception):
    """The message is one line for a person to read."""


class NotFound(ClusterError):
    """The API server, or the snapshot, says that there is no such object."""


class Forbidden(ClusterError):
    """These credentials are not valid, or do not permit the request."""


class NamespaceTerminating(Forbidden):
    """The namespace is being deleted, and nothing can be created in it any more."""


class Conflict(ClusterError):
    """The object has changed, or exists already."""


class Expired(ClusterError):
    """The requested version is too old (410 Gone). The remedy is to list again."""


class Invalid(ClusterError):
    """The request itself is wrong, and repeating it does not help.

    `causes` are the fields of the object that are wrong. There are none when a policy or another webhook rejects it.
    """

    def __init__(self, message: str, causes: Sequence[Cause] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)


class Undecodable(Invalid):
    """The API server could not read the object: a field does not exist, or a value has the wrong type."""


class Unavailable(ClusterError):
    """There was no answer that can be relied upon."""


class Unreachable(Unavailable):
    """There was no answer at all, and none is to be expected to another request."""


class NotServed(Unavailable):
    """The API server does not serve the resource, such as one whose CustomResourceDefinition is missing."""


class UnknownPath(Unavailable):
    """A 404 that names no object: the resource may not be served, or something other than the API server answered."""


def error_from(status: int, answer: Any) -> ClusterError:
    """Translates an HTTP status that is not a success; `answer` is the parsed body, None when it was not JSON."""
    if not isinstance(answer, dict) or answer.get("kind") != "Status":
        error = UnknownPath if status == 404 else Unavailable
        return error(f"HTTP status {status}, without a Kubernetes Status")

    causes = (answer.get("details") or {}).get("causes") or []
    message = shorten(answer.get("message") or answer.get("reason") or f"HTTP status {status}")
    if status == 404:
        names_an_object = (answer.get("details") or {}).get("name")
        return NotFound(message) if names_an_object else UnknownPath(message)
    if status == 403 and "NamespaceTerminating" in [cause.get("reason") for cause in causes]:
        # The admission plugin NamespaceLifecycle gives this cause (corev1.NamespaceTerminatingCause).
        return NamespaceTerminating(f"forbidden: {message}")
    if status in (401, 403):
        return Forbidden(f"forbidden: {message}")
    if status in (400, 422):
        if match := _UNDECODABLE.fullmatch(answer.get("message") or ""):
            unknown = [Cause(path, "unknown field") for path in _UNKNOWN_FIELD.findall(match[1])]
            # For a value of the wrong type the API server names no path, only types of Go.
            return Undecodable(message, unknown or [Cause("", match[1])])

        # Without a field, a cause is about something else, such as a policy or a quota.
        fields = [Cause(cause["field"], cause.get("message") or "") for cause in causes if cause.get("field")]
        return Invalid(message, fields)
    return {409: Conflict, 410: Expired}.get(status, Unavailable)(message)


def shorten(text: str) -> str:
    """Returns the text as one line that fits into a message."""
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_CHARACTERS else f"{line[:_MESSAGE_CHARACTERS]}…"
