"""Certificate files that change under the running server: real sockets, real TLS."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from app.certificates.files import CertificateFiles
from app.certificates.source import CertificateSource, UnusableCertificate
from certs.authority import Pair
from tests.harness.wait import until_async
from tests.harness.webhook_site import LONG, REVIEW, Site, der, seconds_left, serving

pytestmark = pytest.mark.anyio


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def no_probe(_name: str, _authorities: bytes) -> str | None:
    raise AssertionError("files need no probe")


async def test_a_new_pair_is_shown_to_new_connections(site: Site) -> None:
    async with serving(site):
        assert await site.served() == der(site.pair)

        renewed = site.new_pair()
        site.write(renewed)
        site.certificate.refresh()

        assert await site.served() == der(renewed)


async def test_a_wrong_pair_is_refused_and_no_request_is_dropped(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.certificates.files")
    statuses: list[int] = []
    ending = asyncio.Event()
    async with serving(site, patience=LONG), site.client() as client, asyncio.TaskGroup() as group:
        watching = group.create_task(site.certificate.run(no_probe, 0.01))
        group.create_task(ask(site, client, statuses, ending))
        foreign = Pair(site.new_pair().certificate, site.new_pair().key)
        site.write(foreign)
        await until_async(lambda: "the previous one stays in use" in caplog.text)

        assert await site.served() == der(site.pair)

        good = site.new_pair()
        site.write(good)
        await until_async(lambda: "certificate reloaded" in caplog.text)

        assert await site.served() == der(good)

        count = len(statuses)
        await until_async(lambda: len(statuses) > count + 20)
        watching.cancel()
        ending.set()

    assert set(statuses) == {200}


async def ask(site: Site, client: httpx.AsyncClient, statuses: list[int], ending: asyncio.Event) -> None:
    """Posts on kept connections and on new ones in turn; httpx leaves one open that is cancelled in its handshake."""
    while not ending.is_set():
        for headers in ({}, {"connection": "close"}):
            answer = await client.post(site.url, content=REVIEW, headers=headers)
            statuses.append(answer.status_code)


async def test_an_error_is_logged_once_per_change(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    (site.folder / "tls.crt").write_bytes(b"-----BEGIN CERTIFICATE-----\ntrunc")
    for _ in range(3):
        site.certificate.refresh()
    assert caplog.text.count("the previous one stays in use") == 1


async def test_files_that_vanish_and_come_back_change_nothing(site: Site) -> None:
    async with serving(site):
        (site.folder / "tls.key").unlink()
        site.certificate.refresh()

        assert await site.served() == der(site.pair)

        site.write(site.pair)
        site.certificate.refresh()

        assert await site.served() == der(site.pair)


async def test_the_seconds_until_expiry_are_exported(site: Site) -> None:
    assert seconds_left() == pytest.approx(90 * 86400, abs=60)

    site.write(site.authority.issue_pair(["localhost"], datetime.now(UTC), timedelta(days=30)))
    site.certificate.refresh()

    assert seconds_left() == pytest.approx(30 * 86400, abs=60)

    (site.folder / "tls.crt").write_text("nonsense")
    site.certificate.refresh()

    assert seconds_left() == pytest.approx(30 * 86400, abs=60)


async def test_files_that_cannot_be_served_are_an_error_at_the_start(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UnusableCertificate, match=r"certificate .*none with key .*tls\.key: No such file"):
        CertificateFiles(tmp_path / "none", tmp_path / "tls.key")


def test_files_have_nothing_against_being_ready(site: Site) -> None:
    source: CertificateSource = site.certificate

    assert source.why_not_ready() is None
