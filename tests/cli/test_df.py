import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import yaml

from app.cli.df import Row, as_json, format_text, list_volumes
from app.cli.output import format_json
from app.cluster.survey import Survey
from app.storage.facts import Claim
from app.storage.usage import Usage
from app.storage.volume_states import Phase, VolumeState
from app.storage.volumes import Volume
from tests.controlplane.cluster import ControlPlane
from tests.harness.command_line import run
from tests.harness.server_table import server, storage

KEY = ("media", "files")
CLAIMS = {
    ("media", "metadata-files-0"): Claim("metadata-files-0", "fast", "10Gi", "Bound", "10Gi"),
    ("media", "cache-files-0"): Claim("cache-files-0", "fast", "5Gi", "Bound", "20Gi"),
}
FULL = {("media", "cache-files-0"): Usage(4 * 2**30, 5 * 2**30)}


def survey_with(**parts: object) -> Survey:
    manifest = {
        **server(**storage(cacheSize="20Gi")),
        "metadata": {"name": "files", "namespace": "media"},
        "status": {"server": {"version": "0.29.0"}},
    }
    return Survey(**{"servers": {KEY: manifest}, "claims": CLAIMS, "usages": FULL, **parts})  # type: ignore[arg-type]


def lines(rows: list[Row]) -> list[str]:
    return [click.unstyle(line) for line in format_text(rows)]


def test_the_table_has_a_line_a_volume() -> None:
    assert lines(list_volumes(survey_with())) == [
        "NAMESPACE   SERVER   VERSION   VOLUME     CLASS   REQUESTED   CAPACITY   USED      PHASE      MESSAGE",
        "media       files    0.29.0    metadata   fast    10Gi        10Gi       unknown   Bound",
        "media       files    0.29.0    cache      fast    20Gi        5Gi        4Gi 80%   Resizing   "
        "volume claim cache-files-0 grows from 5Gi to 20Gi",
    ]


def test_a_wide_table_names_the_claim_and_its_volume() -> None:
    claim = replace(CLAIMS["media", "metadata-files-0"], volume="pv-1")
    heading, metadata, _ = format_text(list_volumes(survey_with(claims={("media", claim.name): claim})), wide=True)

    assert heading.endswith("MESSAGE   CLAIM              PERSISTENT VOLUME")
    assert metadata.split()[-2:] == ["metadata-files-0", "pv-1"]


def test_servers_come_by_namespace_and_name() -> None:
    keys = [("b", "a"), ("a", "b"), ("a", "a")]
    servers = {key: {**server(), "metadata": {"name": key[1], "namespace": key[0]}} for key in keys}
    rows = list_volumes(survey_with(servers=servers))
    assert [(row.namespace, row.server) for row in rows[::2]] == sorted(keys)


def test_a_failed_lookup_is_listed_as_unknown() -> None:
    [_, _, cache] = lines(list_volumes(survey_with(claims=None, usages={})))
    assert cache.split() == ["media", "files", "0.29.0", "cache", "-", "20Gi", "-", "unknown", "Unknown"]


def test_an_empty_table_says_that_there_are_no_servers() -> None:
    assert lines(list_volumes(Survey())) == ["no DittoServers found"]


def test_json_is_for_programs() -> None:
    text = format_json(map(as_json, list_volumes(survey_with())))

    assert json.loads(text)[1] == {
        "namespace": "media",
        "server": "files",
        "version": "0.29.0",
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
    assert json.loads(text)[0]["usedBytes"] is None


def test_no_line_has_control_characters() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\n\r\u202e"
    volume = Volume(hostile, hostile, hostile, hostile)
    state = VolumeState(volume, hostile, None, hostile, hostile, Phase.PENDING, hostile)
    rows = [Row(hostile, hostile, hostile, state, None)]

    assert all(line.isprintable() for line in lines(rows))


def test_used_space_is_unknown_without_a_kubelet(
    plugin: Callable[..., list[str]], control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("apply", "--namespace", namespace, "-f", "-", input=yaml.safe_dump(server()))
    in_default, in_its_own, in_all = plugin("df"), plugin("df", "-n", namespace), plugin("df", "-A")
    heading, metadata, cache = in_its_own

    assert heading.split()[:4] == ["NAMESPACE", "SERVER", "VERSION", "VOLUME"]
    assert metadata.split() == [namespace, "files", "-", "metadata", "fast", "10Gi", "-", "unknown", "Pending"]
    assert cache.split()[3:] == ["cache", "fast", "5Gi", "-", "unknown", "Pending"]
    assert not any(namespace in line for line in in_default)
    assert sum(namespace in line for line in in_all) == 2
    assert [volume["volume"] for volume in json.loads("\n".join(plugin("df", "-n", namespace, "--output=json")))] == [
        "metadata",
        "cache",
    ]


def test_df_lists_the_volumes_of_a_snapshot(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.yaml"
    here, there = (
        {**server(), "metadata": {"name": "files", "namespace": namespace}} for namespace in ("here", "there")
    )
    snapshot.write_text(yaml.safe_dump_all([here, there]))

    assert len(run("df", "--snapshot", str(snapshot)).stdout.splitlines()) == 5
    assert len(run("df", "--snapshot", str(snapshot), "-n", "here").stdout.splitlines()) == 3
    assert len(yaml.safe_load(run("df", "files", "--snapshot", str(snapshot), "-o", "yaml").stdout)) == 4
    assert "there are: files" in run("df", "none", "--snapshot", str(snapshot)).stderr
