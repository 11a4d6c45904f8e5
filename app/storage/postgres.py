"""A PostgreSQL connection string, taken apart. No error has any part of it in its message."""

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

EXPECTED = "expected postgres://user:password@host:5432/database, or host=... user=... in libpq's form"

_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(?!')((?:[^\s\\]|\\.)+))", re.DOTALL)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEFAULTS = {"port": "5432", "password": "", "sslmode": "prefer"}


def fields(dsn: str) -> dict[str, str]:
    """host, port, database, user, password and sslmode, with libpq's defaults.

    Raises ValueError when it cannot be read, or names no user or not one host: the server connects to one.
    """
    text = dsn.strip()
    given = _of_url(text) if re.match("[a-z]+://", text) else _of_words(text)
    found = {**_DEFAULTS, **{name: value for name, value in given.items() if value}}
    if not found.get("user") or not re.fullmatch("[^,]+", found.get("host", "")):
        raise ValueError(EXPECTED)
    if not _is_port(found["port"]) or found["sslmode"] not in _SSL_MODES or "\0" in "".join(found.values()):
        raise ValueError(EXPECTED)
    found.setdefault("database", found["user"])
    return {name: found[name] for name in ("host", "port", "database", "user", "password", "sslmode")}


def _is_port(text: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,5}", text)) and 1 <= int(text) <= 65535


def _of_url(text: str) -> Mapping[str, str]:
    try:
        url = urlsplit(text)
        port = "" if url.port is None else str(url.port)
    except ValueError:
        # The error quotes what it could not read.
        raise ValueError(EXPECTED) from None
    if url.scheme not in ("postgres", "postgresql"):
        raise ValueError(EXPECTED)
    # In libpq a plus is a plus, as it is not in a form.
    pairs = (pair.partition("=") for pair in url.query.split("&"))
    query = {unquote(name): unquote(value) for name, _, value in pairs}
    return {
        "host": unquote(url.hostname or query.get("host", "")),
        "port": port or query.get("port", ""),
        "database": unquote(url.path.lstrip("/")) or query.get("dbname", ""),
        "user": unquote(url.username or "") or query.get("user", ""),
        "password": unquote(url.password or "") or query.get("password", ""),
        "sslmode": query.get("sslmode", ""),
    }


def _of_words(text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            raise ValueError(EXPECTED)
        word, quoted, bare = match.groups()
        value = bare if quoted is None else quoted
        found["database" if word == "dbname" else word] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = match.end()
    return found
