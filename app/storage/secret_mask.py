"""Masks secrets in what leaves the cluster: known values in every form, and what looks like a secret."""

import base64
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from app.storage.redaction import LEFT_OUT, MASK, unescape

# A shorter value is in too many words to be masked.
MIN_VALUE_CHARACTERS = 4
MAX_LINE_CHARACTERS = 8192
# Of a value of several lines, such as a key in PEM, a log may have some lines.
_MIN_LINE_CHARACTERS = 8
_CUT = " (cut)"

_WORD = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|(?:api|access|private)[_-]?key|credential|dsn|signature|authorization"
)
_SECRET_NAME = re.compile(rf"{_WORD}|key", re.IGNORECASE)
# The length is limited, so that no line takes long; a quote may be escaped, as in JSON inside of JSON.
_FIELD = rf"(?i:[\w.-]{{0,40}}(?:{_WORD})[\w.-]{{0,40}})"
_QUOTE = r"\\{0,8}[\"']"
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# Each leaves its first group as it is, where it has one.
_PATTERNS = (
    re.compile(r"(://)[^\s/@\"']+(?=@)"),  # credentials before the host of a URL
    re.compile(r"(?i)(\b(?:bearer|basic)\s{1,9})[a-z0-9+/=._~-]{8,}"),
    re.compile(r"\beyJ[\w-]{5,500}\.[\w-]{5,}(?:\.[\w-]*)?"),  # a JWT
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,20}\b"),  # an access key of AWS
    re.compile(r"\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{20,}"),  # a hash by bcrypt
    # A member of JSON, or a field in quotes.
    re.compile(rf"({_FIELD}(?:{_QUOTE})?\s{{0,9}}[:=]\s{{0,9}})({_QUOTE}).*?(?:(?<!\\)\2|$)"),
    # A field of a log, such as password=x, or of the query of a URL.
    re.compile(rf"({_FIELD}=)(?![\"'\\])[^\s,;&\"']+"),
    re.compile(r"(?i)([?&](?:sig|auth|code|key|session)=)[^\s&\"']+"),
)
# In prose, which may have spaces in a password, and names what it is about as well.
_PATTERNS_OF_LOGS = (
    *_PATTERNS,
    re.compile(r"((?i:pass(?:word|wd|phrase))[^:=]{0,60}[:=]\s{1,9})(?![\"'{\[])\S.*"),
    re.compile(r"((?i:pass(?:word|wd|phrase))\s{1,9}(?i:is|was|set to)\s{1,9})\S.*"),
    re.compile(rf"({_FIELD}:\s{{0,9}})(?![\"'\\\s])[^\s,;\"']+"),
    # A line of a file, a flag with its value behind it, and the cookies of a request.
    re.compile(rf"({_FIELD}\s{{1,9}}=\s{{0,9}})(?![\"'\\\s=])[^\s,;&\"']+"),
    re.compile(rf"((?<!\S)--?{_FIELD}\s{{1,9}})(?![-\"'\\\s])\S+"),
    re.compile(r"(?i)(\bcookie:\s{0,9})(?![\"'\s])\S.*"),
)
_PASSWORDS_OF_DSN = (
    re.compile(r"://[^:/@\s]{0,99}:([^@\s]+)@"),
    re.compile(r"(?i)\bpassword\s{0,9}=\s{0,9}'?([^'\s]+)"),
)


class SecretMask:
    """Masks these values, whoever repeats them, and what looks like a secret."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for form in _forms(value)}
        # A value that contains another one comes first, or its rest would stay.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._values = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._unescaped = {unescape(form) for form in forms}

    def known(self, line: str) -> str:
        """Masks only known values; nothing of the line is left when it repeats one in an unusual form."""
        masked = self._values.sub(MASK, line) if self._values else line
        bare = unescape(masked)
        return LEFT_OUT if any(value in bare for value in self._unescaped) else masked

    def text(self, text: str) -> str:
        """Masks known values, and what looks like a secret, in text of any number of lines."""
        return self._lines(text, _PATTERNS)

    def log(self, text: str) -> str:
        """Masks more than `text` does: it rather masks too much of what others wrote than too little."""
        return self._lines(text, _PATTERNS_OF_LOGS)

    def _lines(self, text: str, patterns: Iterable[re.Pattern[str]]) -> str:
        return "\n".join(self._line(line, patterns) for line in _PRIVATE_KEY.sub(MASK, text).split("\n"))

    def _line(self, line: str, patterns: Iterable[re.Pattern[str]]) -> str:
        masked = self.known(line)
        # Only now, or the end could be the beginning of a value, which nobody would recognize.
        is_cut = len(masked) > MAX_LINE_CHARACTERS
        masked = masked[:MAX_LINE_CHARACTERS]

        for pattern in patterns:
            masked = pattern.sub(lambda match: f"{match[1] if match.lastindex else ''}{MASK}", masked)
        return f"{masked}{_CUT}" if is_cut else masked


def names_a_secret(name: str) -> bool:
    """Tells whether the value of a variable or a flag of this name may be a secret."""
    return bool(_SECRET_NAME.search(name))


def secret_values(secret: Mapping[str, Any], harmless_keys: Collection[str] = ()) -> Iterator[str]:
    """Yields the values of a Secret that nobody may see; certificates are for everybody."""
    for key, encoded in (secret.get("data") or {}).items():
        if key in harmless_keys:
            continue

        try:
            value = base64.b64decode(encoded or "").decode(errors="replace")
        except ValueError:
            value = str(encoded)
        # A file for a proxy has the certificate and its key in one.
        if not value.startswith("-----BEGIN CERTIFICATE-----") or "PRIVATE KEY" in value:
            yield value


def _forms(value: str) -> Iterator[str]:
    """Yields the value, its lines, the password in it if it is a connection string, and each of them encoded."""
    lines = [line.strip() for line in value.splitlines()]
    parts = [value, value.strip(), *(line for line in lines if len(lines) > 1 and len(line) >= _MIN_LINE_CHARACTERS)]
    parts += [match for pattern in _PASSWORDS_OF_DSN for match in pattern.findall(value)]

    for part in parts:
        if len(part) < MIN_VALUE_CHARACTERS:
            continue
        encoded = base64.b64encode(part.encode(errors="replace")).decode().rstrip("=")
        forms = (part, json.dumps(part)[1:-1], quote(part, safe=""), quote_plus(part), encoded)
        yield from (form for form in forms if "\n" not in form)
