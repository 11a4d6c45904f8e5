"""Parses a PostgreSQL connection string. No error has any part of it in its message."""

import re
from urllib.parse import unquote

from app.storage.facts import split_url
from app.storage.secret_references import POSTGRES_KEYS

EXPECTED = "expected postgres://user:password@host:5432/database, or host=... user=... in libpq's form"

_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(?!')((?:[^\s\\]|\\.)+))", re.DOTALL)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEFAULTS = {"port": "5432", "password": "", "sslmode": "prefer"}


def parse_dsn(dsn: str) -> dict[str, str]:
    """Returns host, port, database, user, password and sslmode, with libpq's defaults. Raises ValueError."""
    text = dsn.strip()
    written = {}
    if re.match("[a-z]+://", text):
        written = _parse_url(text)
    else:
        position = 0
        while position < len(text):
            match = _PAIR.match(text, position)
            if match is None:
                raise ValueError(EXPECTED)

            word, quoted, bare = match.groups()
            value = bare if quoted is None else quoted
            written["database" if word == "dbname" else word] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
            position = match.end()

    fields = {**_DEFAULTS, **{name: value for name, value in written.items() if value}}

    # The server connects to a single host, as a user who has to be named.
    if not fields.get("user") or not re.fullmatch("[^,]+", fields.get("host", "")):
        raise ValueError(EXPECTED)

    is_port = re.fullmatch("[0-9]{1,5}", fields["port"]) and 1 <= int(fields["port"]) <= 65535
    if not is_port or fields["sslmode"] not in _SSL_MODES or "\0" in "".join(fields.values()):
        raise ValueError(EXPECTED)

    fields.setdefault("database", fields["user"])
    return {name: fields[name] for name in POSTGRES_KEYS}


def _parse_url(text: str) -> dict[str, str]:
    try:
        url = split_url(text)
        port = "" if url.port is None else str(url.port)
    except ValueError:
        # The error quotes what it could not read.
        raise ValueError(EXPECTED) from None

    if url.scheme not in ("postgres", "postgresql"):
        raise ValueError(EXPECTED)

    # libpq does not read a plus as a space, as a form would.
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
