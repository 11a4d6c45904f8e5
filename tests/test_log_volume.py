"""What a server's whole life leaves in the log: how many lines, and no value of a Secret in any of them."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.cluster.errors import NotFound
from app.cluster.reader import DITTO_SERVERS
from tests.controlplane.cluster import ControlPlane
from tests.harness.dittofs_standin import BUCKET, CURRENT, PASSWORD, S3, DittoFS
from tests.harness.editing import delete
from tests.harness.reconciler_namespace import ReconcilerNamespace, open_reconciler_namespace
from tests.harness.served_site import served_site
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

Lines = list[dict[str, Any]]

FIRST, SECOND, WRONG = ("first", "first-MARKER"), ("second", "second-MARKER"), ("second", "wrong-MARKER")
MARKERS = ("MARKER", PASSWORD)
SPEC = {
    "s3": {"credentialsSecretRef": {"secretName": "s3"}, "bucket": BUCKET, "region": "us-east-1"},
    "storage": {"metadataSize": "10Gi", "contentSize": "10Gi", "storageClassName": ""},
    "shares": [{"name": "media"}],
}
DSN = "postgres://user-MARKER:{}@db.example/shares"

# At INFO and above. A few lines more or less come from changes of the status: they depend on what is seen at once.
LIMITS = {"new server": 20, "idle": 0, "image change": 10, "rotation": 11, "rejected keys": 6, "deletion": 1}


@pytest.fixture
def s3(standin: Path, tmp_path: Path) -> Iterator[S3]:
    with S3(standin, tmp_path / "s3", **dict([FIRST])) as endpoint:
        yield endpoint


site = pytest.fixture(open_reconciler_namespace)


def leaked(lines: Lines) -> list[str]:
    return [text for text in map(json.dumps, lines) if any(marker in text for marker in MARKERS)]


def notable(lines: Lines) -> Lines:
    """Returns the lines about the server at INFO and above: a watch may break on any machine."""
    return [line for line in lines if line["level"] != "DEBUG" and line.get("server") == "files"]


async def test_a_life_leaves_few_lines_and_no_secret(
    control_plane: ControlPlane, crd: None, namespace: str, standin: Path, s3: S3, tmp_path: Path, log_lines: Lines
) -> None:
    dittofs = DittoFS(standin, CURRENT, tmp_path / CURRENT)
    counts: dict[str, int] = {}
    begun = 0

    async def end(chapter: str) -> Lines:
        """Waits until nothing happens any more, and counts the lines of the chapter."""
        nonlocal begun
        while True:
            length = len(log_lines)
            await asyncio.sleep(2)
            if len(notable(log_lines[length:])) == 0:
                break

        lines, begun = notable(log_lines[begun:]), len(log_lines)
        counts[chapter] = len(lines)
        print(f"{chapter}: {len(lines)} lines")
        print(
            *(f"    {line['level']} {line['message']} {line.get('kind', '')} {line.get('name', '')}" for line in lines),
            sep="\n",
        )
        return lines

    async def put_keys(keys: tuple[str, str]) -> None:
        await opened.put_secret("s3", accessKeyId=keys[0], secretAccessKey=keys[1], endpoint=s3.url)

    async def accept(*keys: tuple[str, str]) -> None:
        await asyncio.to_thread(partial(s3.put_keys, **dict(keys)))

    async with served_site(control_plane, namespace, dittofs, tmp_path) as opened, opened.operated():
        await put_keys(FIRST)
        await opened.create(**SPEC)
        await opened.until(lambda: opened.shares() == {"/media": "Ready"})
        lines = await end("new server")

        written = Counter(line["kind"] for line in lines if line["message"] == "created")
        assert written.keys() == {"ConfigMap", "Secret", "Service", "StatefulSet"}
        assert all(line["reconcile_id"] and line["trigger"] and line["namespace"] == namespace for line in lines)
        assert {line["path"] for line in lines if line["message"] == "server changed"}

        await end("idle")

        await opened.change(image="registry.example/dittofs:0.27.0")
        await opened.until(lambda: opened.starts == 2)
        lines = await end("image change")

        [line] = [line for line in lines if line.get("verb") == "apply"]
        assert "spec.template.spec.containers[dittofs].image" in line["fields"]
        assert line["trigger"] == "DittoServer"

        await accept(FIRST, SECOND)
        await put_keys(SECOND)
        await opened.until(lambda: opened.starts == 3)
        await opened.until_condition("CredentialsReady", "True", "Found")
        lines = await end("rotation")

        assert "Secret s3" in {line["trigger"] for line in lines}

        await put_keys(WRONG)
        await opened.until_condition("CredentialsReady", "False", "CredentialsRejected")
        lines = await end("rejected keys")

        assert any("CredentialsRejected" in json.dumps(line) for line in lines)

        await delete(opened.cluster, DITTO_SERVERS, opened.key)
        await until_async(lambda: opened.key not in opened.informers.servers)
        lines = await end("deletion")

        assert "server deleted" in {line["message"] for line in lines}

    assert not leaked(log_lines)
    assert counts.keys() == LIMITS.keys()
    assert not [chapter for chapter, limit in LIMITS.items() if counts[chapter] > limit]


async def test_a_connection_string_is_in_no_line(site: ReconcilerNamespace, log_lines: Lines) -> None:
    reference = {"name": "dsn", "key": "url"}
    await site.put_secret("dsn", url=DSN.format("old-MARKER"))
    await site.create_server(database={"type": "postgres", "postgresSecretRef": reference})
    await site.reconcile()
    await site.put_secret("dsn", url=DSN.format("new-MARKER"))
    await site.reconcile()
    await site.put_secret("dsn", url="broken-MARKER")
    await site.reconcile()
    await site.put_secret("dsn", other="MARKER")
    await site.reconcile()

    await site.delete(DITTO_SERVERS)
    await until_async(lambda: site.key not in site.informers.servers)
    await site.reconcile()
    with pytest.raises(NotFound):
        await site.live(DITTO_SERVERS)

    changed = [line["fields"] for line in log_lines if line["message"] == "changed" and line["kind"] == "Secret"]
    assert ["data.password"] in changed
    assert "SecretIncomplete" in {line.get("problem") for line in log_lines}
    assert not leaked(log_lines)
