"""Rotates the S3 keys of a server that keeps a copy of them, and interrupts each call to it: the operator dies as well.

Another operator goes on. It always ends with one restart, and with a share that uses the new key. `pytest -s` shows
the figures.
"""

import asyncio
import json
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import pytest

from app.dittofs import client
from app.storage.rollout import is_ready
from app.storage.unstructured import Manifest
from tests.controlplane.cluster import ControlPlane
from tests.harness.dittofs_standin import BUCKET, CURRENT, PASSWORD, S3, DittoFS
from tests.harness.rest_faults import Death, Fault, RestProxy
from tests.harness.served_site import ServedSite, served_site
from tests.harness.wait import until_async

pytestmark = pytest.mark.anyio

# The others are tried where only the conversation with the server counts.
FAULTS: tuple[Fault | Death, ...] = (*get_args(Death), "unanswered", "error", "restarted before", "restarted after")
MARKERS = ("marker-", PASSWORD)
S3_SECTION = {"credentialsSecretRef": {"secretName": "s3"}, "bucket": BUCKET, "region": "us-east-1"}
DEADLINE_SECONDS = 2.0


class Rotations:
    """Rotates the keys in every chapter."""

    def __init__(self, site: ServedSite, proxy: RestProxy, s3: S3) -> None:
        self.site = site
        self.proxy = proxy
        self.s3 = s3
        self.number = 0

    async def begin(self) -> None:
        """Creates a server with one share, and waits until it is served."""
        await self._accept(0)
        await self._put_secret(0)
        await self.site.create(s3=S3_SECTION, shares=[{"name": "media"}])
        async with self.site.operated():
            await self.site.until(lambda: self.site.shares() == {"/media": "Ready"} and self._is_settled())

    async def chapter(self, fault: Fault | Death | None = None, at: int = 0) -> list[str]:
        """Rotates the keys with a fault at one call, and returns the calls."""
        self.number += 1
        starts, before = self.site.starts, self._pod["metadata"]["uid"]
        await self._accept(self.number - 1, self.number)
        await self._put_secret(self.number)
        self.proxy.plan(fault, at)

        def is_done() -> bool:
            pod = self._pod
            is_new = pod.get("metadata", {}).get("uid") not in (None, before)
            return self.site.starts > starts and is_new and is_ready(pod) and self._is_settled()

        async with self.site.operated():
            await self.site.until(lambda: is_done() or self.proxy.killed.is_set())
        if self.proxy.killed.is_set():
            async with self.site.operated():
                await self.site.until(is_done)

        calls = list(self.proxy.calls)
        await self._accept(self.number)
        await self._check(starts + 1)
        return calls

    async def _check(self, starts: int) -> None:
        written = await asyncio.to_thread(self.site.dittofs.write, "media", f"file-{self.number}", "content")
        assert (written.status_code, written.json().get("key_id")) == (200, f"key-{self.number}")
        assert self.site.starts == starts

        stores = await asyncio.to_thread(self.site.dittofs.api, "GET", "/store/block/remote")
        assert [store["name"] for store in stores.json()] == ["dittofs-operator"]
        assert not [text for text in self._texts() if any(marker in text for marker in MARKERS)]

    @property
    def _pod(self) -> Manifest:
        return self.site.informers.pods.get((self.site.namespace, "files-0")) or {}

    def _is_settled(self) -> bool:
        """Tells whether the operator has nothing left to do."""
        site = self.site
        conditions = site.condition("CredentialsReady")[0], site.condition("Reconciling")[0]
        return conditions == ("True", "False") and "restartFor" not in site.status.get("remoteStore", {})

    def _texts(self) -> tuple[str, ...]:
        return json.dumps(self.site.status), repr(self.site.events)

    async def _accept(self, *numbers: int) -> None:
        keys = {f"key-{number}": secret(number) for number in numbers}
        await asyncio.to_thread(lambda: self.s3.put_keys(**keys))

    async def _put_secret(self, number: int) -> None:
        values = {"accessKeyId": f"key-{number}", "secretAccessKey": secret(number), "endpoint": self.s3.url}
        await self.site.put_secret("s3", **values)

        def is_known() -> bool:
            return (self.site.namespace, "s3") in self.site.informers.secrets_metadata

        await until_async(is_known)


def secret(number: int) -> str:
    return f"marker-{number}-secret"


def first_conversation(calls: list[str]) -> list[str]:
    """Leaves out those after the restart, as everything may be there before them."""
    [first, *others] = calls
    return [first, *takewhile(lambda call: call != first, others)]


async def test_an_interrupted_rotation_is_completed(
    control_plane: ControlPlane,
    crd: None,
    namespace: str,
    standin: Path,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[dict[str, Any]],
) -> None:
    monkeypatch.setattr(client, "LONGEST_TIMEOUT_SECONDS", DEADLINE_SECONDS)
    dittofs = DittoFS(standin, CURRENT, tmp_path / CURRENT)
    proxy = RestProxy(dittofs.url, dittofs.restart)

    async with served_site(control_plane, namespace, dittofs, tmp_path) as site, proxy.serve() as url:
        site.proxy.port = int(url.rpartition(":")[2])
        story = Rotations(site, proxy, s3)
        await story.begin()
        undisturbed = first_conversation(await story.chapter())

        begun, failed, runs = monotonic(), 0, 0
        for fault in FAULTS:
            for at in range(1, len(undisturbed) + 1):
                failed += len(await story.chapter(fault, at)) >= at
                runs += 1

    print(*undisturbed, sep="\n")
    print(f"{failed} of {runs} rotations with a fault, in {monotonic() - begun:.0f} s")
    assert failed == runs
    assert not [line for line in map(str, log_lines) if any(marker in line for marker in MARKERS)]
