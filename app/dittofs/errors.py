"""What can go wrong with a request to a DittoFS server. Each message is one line of limited length, without secrets."""

from collections.abc import Iterable

import orjson

from app.storage.evidence import quote

_MASK = "********"


class ServerError(Exception):
    """The message is one line for a person to read."""


class ServerUnreachable(ServerError):
    """There was no complete answer; whether the server has done what it was asked to do is not known."""


class UnexpectedAnswer(ServerError):
    """It answered as no DittoFS server does: the image may be anything, and so may whatever answers in its place."""


class Rejected(ServerError):
    """The server answered with an HTTP status that is not a success; `detail` is what it said, empty if nothing."""

    def __init__(self, request: str, status: int, detail: str) -> None:
        super().__init__(f"the server answered {request} with HTTP status {status}{detail and f': {detail}'}")
        self.request = request
        self.status = status
        self.detail = detail


def redact(text: object, secrets: Iterable[str]) -> str:
    """Quotes a server's text as one line, with these values masked, also as they are written in JSON."""
    line = str(text or "")
    forms = {form for secret in secrets if secret for form in (secret, orjson.dumps(secret).decode()[1:-1])}
    # A value that contains another one comes first, or its rest would stay.
    for form in sorted(forms, key=len, reverse=True):
        line = line.replace(form, _MASK)
    return quote(line)
