import json

import click

from app.cluster.survey import Survey
from app.df import Row, df, text
from app.df import json as as_json
from app.storage.facts import Claim
from app.storage.inventory import Entry
from app.storage.resize import Phase
from app.storage.usage import Usage
from tests.harness.server_table import server, storage

KEY = ("media", "files")
CLAIMS = {
    ("media", "metadata-files-0"): Claim("metadata-files-0", "fast", "10Gi", "Bound", "10Gi"),
    ("media", "cache-files-0"): Claim("cache-files-0", "fast", "5Gi", "Bound", "20Gi"),
}
FULL = {("media", "cache-files-0"): Usage(4 * 2**30, 5 * 2**30)}


def found(**known: object) -> Survey:
    manifest = {**server(**storage(cacheSize="20Gi")), "metadata": {"name": "files", "namespace": "media"}}
    return Survey(**{"servers": {KEY: manifest}, "claims": CLAIMS, "usages": FULL, **known})  # type: ignore[arg-type]


def lines(rows: list[Row]) -> list[str]:
    return [click.unstyle(line) for line in text(rows)]


def test_the_table_has_a_line_a_volume() -> None:
    assert lines(df(found())) == [
        "NAMESPACE   SERVER   VOLUME     CLASS   REQUESTED   CAPACITY   USED      PHASE      MESSAGE",
        "media       files    metadata   fast    10Gi        10Gi       unknown   Bound",
        "media       files    cache      fast    20Gi        5Gi        4Gi 80%   Resizing   "
        "volume claim cache-files-0 grows from 5Gi to 20Gi",
    ]


def test_servers_come_by_namespace_and_name() -> None:
    keys = [("b", "a"), ("a", "b"), ("a", "a")]
    servers = {key: {**server(), "metadata": {"name": key[1], "namespace": key[0]}} for key in keys}
    rows = df(found(servers=servers))
    assert [(row.namespace, row.server) for row in rows[::2]] == sorted(keys)


def test_what_nobody_could_find_out_is_told_as_unknown() -> None:
    [_, _, cache] = lines(df(found(claims=None, usages={})))
    assert cache.split() == ["media", "files", "cache", "-", "20Gi", "-", "unknown", "Unknown"]


def test_where_there_are_no_servers_the_table_says_so() -> None:
    assert lines(df(Survey())) == ["no DittoServers found"]


def test_json_is_for_programs() -> None:
    [line] = as_json(df(found()))

    assert json.loads(line)[1] == {
        "namespace": "media",
        "server": "files",
        "volume": "cache",
        "claim": "cache-files-0",
        "storageClass": "fast",
        "requested": "20Gi",
        "capacity": "5Gi",
        "usedBytes": 4 * 2**30,
        "fileSystemBytes": 5 * 2**30,
        "phase": "Resizing",
        "message": "volume claim cache-files-0 grows from 5Gi to 20Gi",
    }
    assert json.loads(line)[0]["usedBytes"] is None


def test_no_line_has_what_a_terminal_obeys() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\n\r\u202e"
    rows = [Row(hostile, hostile, Entry(hostile, hostile, hostile, hostile, hostile, Phase.PENDING, hostile), None)]

    assert all(line.isprintable() for line in lines(rows))
