"""Quotes what a server says without the secrets that it was sent: it may repeat them in its errors."""

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import unquote

from app.storage.evidence import MAX_TEXT_CHARACTERS, quote

# An escaped character has at most so many.
_ESCAPED_CHARACTERS = 12
MASK = "********"
LEFT_OUT = "(left out, because it repeats a secret)"
_ESCAPED_CHARACTER = re.compile(r"\\u([0-9a-fA-F]{4})")


def redact(text: object, secrets: Iterable[str]) -> str:
    """Quotes a text as one line, with these values masked; nothing of it when it has one in an unusual form."""
    values = [secret for secret in secrets if secret]
    # A value may begin just before the limit of what is read.
    room = _ESCAPED_CHARACTERS * max(map(len, values), default=0)
    whole = str(text or "")
    line = whole[: MAX_TEXT_CHARACTERS + room]
    is_cut = len(whole) > len(line)

    forms = {form for value in values for form in (value, json.dumps(value)[1:-1])}
    # A value that contains another one comes first, or its rest would stay.
    for form in sorted(forms, key=len, reverse=True):
        line = line.replace(form, MASK)

    # A configuration is JSON inside of JSON, so that a value may be escaped twice, or for a URL or a page.
    if repeats(line, values):
        return LEFT_OUT
    # The end may be the beginning of a value, which was not recognized.
    return quote(line[: len(line) - room] if is_cut else line)


def repeats(text: str, secrets: Iterable[str]) -> bool:
    """Tells whether the text has one of these values in it, however it is escaped."""
    bare = unescape(text)
    return any(unescape(secret) in bare for secret in secrets if secret)


def unescape(text: str) -> str:
    """Undoes every way of escaping that is common, however often it was applied."""
    text = html.unescape(unquote(text))
    return _ESCAPED_CHARACTER.sub(lambda match: chr(int(match[1], 16)), text).replace("\\", "")
