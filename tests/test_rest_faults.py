"""Every call to the REST API of a server goes wrong once, in every way, and the operator gets there all the same.

First an empty server is given its stores and shares, then a server gets new S3 keys. `pytest -s` shows the figures.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import pytest

from app.dittofs import client
from app.dittofs.client import AdminSession, ServerClient
from app.dittofs.errors import ServerError
from app.storage.dialogue import Dialogue
from app.storage.maintenance import Provisioned, Provisioning, maintain
from app.storage.problem import Problem, Stage
from app.storage.reading import read
from app.storage.remote_store import Bucket, RemoteStore, S3Keys
from app.storage.secret_references import PASSWORD_PATH, SecretReference
from app.storage.server_health import Family
from app.storage.spec import Share
from tests.harness.dittofs_standin import BUCKET, CURRENT, LEGACY, PASSWORD, S3, DittoFS
from tests.harness.raw_server import connect_to
from tests.harness.rest_faults import Fault, RestProxy
from tests.harness.server_table import s3 as s3_section
from tests.harness.server_table import server

pytestmark = pytest.mark.anyio

# Distinctive, so that they would be noticed wherever they do not belong; each has characters that JSON escapes.
SECRETS = {"first": 'marker-first/+"secret', "second": 'marker-second/+"secret'}
MARKERS = ("marker-", PASSWORD)
SHARES = (Share(name="media"), Share(name="films", squash="none"))
FAMILIES = {Family.LEGACY: LEGACY, Family.CURRENT: CURRENT}
ATTEMPTS = 5
# Long enough for every answer of the stand-in, and a short time to wait for one that never comes.
DEADLINE_SECONDS = 0.4


class Story:
    """One server from its first boot on, and an operator that reaches it through the proxy."""

    def __init__(self, family: Family, standin: Path, s3: S3, folder: Path) -> None:
        self.family = family
        self.s3 = s3
        self.key = "first"
        self.known = RemoteStore()
        self.messages: list[str] = []
        self.restarts = 0
        self.dittofs = DittoFS(standin, FAMILIES[family], folder)
        self.proxy = RestProxy(self.dittofs.url, self.dittofs.restart)
        self._socket = folder / "api.sock"

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self.s3.put_keys(first=SECRETS["first"])
        self._put_key_into_environment()
        with self.dittofs:
            async with self.proxy.serve(self._socket):
                yield

    async def provision(self) -> None:
        """Gives the server what it lacks, again until nothing is left to do, and restarts it when that is asked for."""
        for _ in range(ATTEMPTS):
            result = await self._converse()
            if result.store.verified:
                self.known = replace(self.known, name=result.store.name, config_hash=result.store.verified)
            if result.store.is_outdated or result.is_outdated:
                self._restart()
            if result.is_complete:
                return
        raise AssertionError(self.messages)

    async def rotate(self) -> None:
        """Changes the keys as a user does: both are good for a while."""
        self.s3.put_keys(**SECRETS)
        self.key = "second"
        if self.family is Family.LEGACY:
            # It reads its keys at the start, so that the operator restarts it in any case.
            self._restart()
        await self.provision()
        self.s3.put_keys(second=SECRETS["second"])

    def check(self) -> None:
        """Fails unless the server has exactly what the spec says, and uses the key of now."""
        assert sorted(share["name"] for share in self.dittofs.api("GET", "/shares").json()) == ["/films", "/media"]

        for path, names in {
            Family.LEGACY: {"/metadata-stores": 1, "/payload-stores": 1},
            Family.CURRENT: {"/store/metadata": 1, "/store/block/local": 1, "/store/block/remote": 1},
        }[self.family].items():
            assert len(self.dittofs.api("GET", path).json()) == names

        for share in SHARES:
            written = self.dittofs.write(share.name, self.key, "content")
            assert (written.status_code, written.json().get("key_id")) == (200, self.key)
            assert self.dittofs.read(share.name, self.key).text == "content"
        leaks = [message for message in self.messages if any(marker in message for marker in MARKERS)]
        assert not leaks, "\n".join(leaks)

    def _restart(self) -> None:
        self.restarts += 1
        self._put_key_into_environment()
        self.dittofs.restart()

    def _put_key_into_environment(self) -> None:
        self.dittofs.environ |= {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": SECRETS[self.key]}

    async def _converse(self) -> Provisioned:
        """Does what the operator does in one attempt."""
        keys = S3Keys(self.key, SECRETS[self.key], self.s3.url)
        try:
            session = await ServerClient(connect_to(self._socket)).login("http://files-api:8080", "admin", PASSWORD)
        except ServerError as error:
            problem = Problem("LoginFailed", str(error), Stage.CREDENTIALS)
            result = Provisioned(self._provisioning(), problem=problem)
        else:
            result = await talk(session, maintain(self._provisioning(), keys), [keys.secret_access_key])

        self.messages.append(str(result))
        return result

    def _provisioning(self) -> Provisioning:
        spec = read(server(**s3_section(), shares=[{"name": share.name} for share in SHARES])).server.spec
        spec = spec.model_copy(update={"s3": spec.s3.model_copy(update={"bucket": BUCKET})})
        bucket = Bucket(BUCKET, "us-east-1", "keys", store_hash=f"{self.key:0<64}", server="files", namespace="here")
        return Provisioning(
            uid="uid",
            pod="pod",
            started_at="",
            url="http://files-api:8080",
            family=self.family,
            password=SecretReference(PASSWORD_PATH, "admin password", "admin", ()),
            s3=None,
            bucket=bucket if self.family is Family.CURRENT else None,
            shares=SHARES,
            secret_digests=(),
            spec=spec,
            known=self.known,
        )


async def talk(session: AdminSession, dialogue: Dialogue[Provisioned], secrets: list[str]) -> Provisioned:
    try:
        request = next(dialogue)
        while True:
            request = dialogue.send(await session.ask(request, secrets))
    except StopIteration as end:
        result: Provisioned = end.value
        return result


@pytest.mark.parametrize("family", list(Family))
async def test_provisioning_gets_there_whatever_goes_wrong(
    family: Family,
    standin: Path,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[dict[str, Any]],
) -> None:
    monkeypatch.setattr(client, "LONGEST_TIMEOUT_SECONDS", DEADLINE_SECONDS)
    folders = (tmp_path / str(number) for number in count())

    async def tell(fault: Fault | None = None, at: int = 0, *, rotated: bool = False) -> RestProxy:
        """Tells the story with a fault at one call, of the rotation where it has one, and returns the proxy."""
        story = Story(family, standin, s3, next(folders))
        async with story.run():
            if not rotated:
                story.proxy.plan(fault, at)
            await story.provision()

            if rotated:
                story.proxy.plan(fault, at)
                await story.rotate()
                assert story.restarts == 1
            story.check()
        return story.proxy

    begun, failed, runs = monotonic(), 0, 0
    for rotated in (False, True):
        undisturbed = (await tell(rotated=rotated)).calls
        print(*undisturbed, sep="\n")
        for fault in get_args(Fault):
            for at in range(1, len(undisturbed) + 1):
                failed += (await tell(fault, at, rotated=rotated)).has_failed
                runs += 1

    print(f"{family}: {failed} of {runs} runs with a fault, in {monotonic() - begun:.0f} s")
    assert failed == runs
    assert not [line for line in map(str, log_lines) if any(marker in line for marker in MARKERS)]
