"""The API server's verdict on an object: the warnings in an answer's headers, the fields that a Status rejects."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.storage.facts import Cause

# Code, agent and quoted text (RFC 7234, 5.5), as k8s.io/apimachinery writes and reads them.
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_UNDECODABLE = re.compile(r'\S+ in version "[^"]*" cannot be handled as a \S+: (.*)', re.DOTALL)
_UNKNOWN_FIELD = re.compile(r'unknown field "(.*?)"(?=, (?:unknown|duplicate) field "|$)', re.DOTALL)


def parse_warnings(headers: Iterable[str]) -> tuple[str, ...]:
    """The texts of all `Warning` headers, each text once; a header may hold several."""
    texts = (_ESCAPED.sub(r"\1", text) for header in headers for text in _WARNING.findall(header))
    return tuple(dict.fromkeys(texts))


def causes(status: Mapping[str, Any]) -> tuple[Cause, ...]:
    """The fields that a Status rejects; none when it is about something else, such as a policy or a quota."""
    listed = (status.get("details") or {}).get("causes") or []
    return tuple(Cause(cause["field"], cause.get("message") or "") for cause in listed if cause.get("field"))


def decoding_causes(message: str) -> tuple[Cause, ...]:
    """Why the API server could not read an object at all; none when the message is about something else.

    Of a value of the wrong type it names no path, only Go's types: that cause has an empty field.
    """
    match = _UNDECODABLE.fullmatch(message)
    if match is None:
        return ()

    unknown = tuple(Cause(path, "unknown field") for path in _UNKNOWN_FIELD.findall(match[1]))
    return unknown or (Cause("", match[1]),)
