"""A PostgreSQL connection string, taken apart. No error has any part of it in its message."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

EXPECTED = "expected postgres://user:password@host:5432/database, or host=... user=... in libpq's form"

_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)+))", re.DOTALL)
_DEFAULTS = {"port": "5432", "password": "", "sslmode": "prefer"}


def fields(dsn: str) -> dict[str, str]:
    """host, port, database, user, password and sslmode, with libpq's defaults.

    Raises ValueError when it cannot be read, or names no host or no user.
    """
    text = dsn.strip()
    given = _of_url(text) if "://" in text else _of_words(text)
    found = {**_DEFAULTS, **{name: value for name, value in given.items() if value}}
    if not found.get("host") or not found.get("user") or not found["port"].isdecimal():
        raise ValueError(EXPECTED)
    found.setdefault("database", found["user"])
    return {name: found[name] for name in ("host", "port", "database", "user", "password", "sslmode")}


def _of_url(text: str) -> Mapping[str, str]:
    try:
        url = urlsplit(text)
        port = str(url.port or "")
    except ValueError:
        # The error quotes what it could not read.
        raise ValueError(EXPECTED) from None
    if url.scheme not in ("postgres", "postgresql"):
        raise ValueError(EXPECTED)
    query = dict(parse_qsl(url.query))
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
