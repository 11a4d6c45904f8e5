"""Each test has a process of its own, because a library is imported once."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from certs.authority import Authority

# Prints how many CAs are trusted by the defaults of the library and by those of Python, and what the environment says.
REPORT = """
import json, os, ssl
from app.cluster.http_library import aiohttp
library = aiohttp.connector
contexts = (library._SSL_CONTEXT_VERIFIED, library._SSL_CONTEXT_UNVERIFIED, ssl.create_default_context())
trusted = [context.cert_store_stats()["x509"] for context in contexts]
print(json.dumps([trusted, [os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")]]))
"""


def test_the_library_reads_no_authority_of_the_system(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_bytes(Authority.create("of the system", datetime.now(UTC)).pem)

    assert report(SSL_CERT_FILE=str(authority)) == [[0, 0, 1], [str(authority), None]]


def test_the_environment_stays_empty() -> None:
    assert report()[1] == [None, None]


def report(**environment: str) -> list[list[object]]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
    process = subprocess.run(
        (sys.executable, "-c", REPORT), env=others | environment, capture_output=True, text=True, check=True
    )
    reported: list[list[object]] = json.loads(process.stdout)
    return reported
