"""Serves the certificate in two files and reloads it when they change. Never writes to them."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

from app.certificates.source import Probe, ServingCertificate, UnusableCertificate

CHECK_SECONDS = 1.0

log = logging.getLogger(__name__)


class CertificateFiles:
    """A CertificateSource whose certificate somebody else keeps up to date, such as cert-manager."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises UnusableCertificate."""
        self._files = (certificate, key)
        self._stats = self._read_stats()
        self._serving = ServingCertificate(lambda: datetime.now(UTC))
        self._serving.load_files(*self._files)
        self.context = self._serving.context

    async def run(self, _probe: Probe, seconds: float = CHECK_SECONDS) -> None:
        """Checks the files that often until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            self.refresh()

    def why_not_ready(self) -> str | None:
        """Returns None: whoever writes the files also sees to it that the API server trusts them."""
        return None

    def refresh(self) -> None:
        """Loads the files if they have changed, and logs the result once per change."""
        stats = self._read_stats()
        if stats == self._stats:
            return
        self._stats = stats

        try:
            self._serving.load_files(*self._files)
        except UnusableCertificate as error:
            log.error("certificate refused, the previous one stays in use", extra={"reason": str(error)})  # noqa: TRY400
        else:
            log.info("certificate reloaded", extra={"file": str(self._files[0])})

    def _read_stats(self) -> list[tuple[int, int, int] | None]:
        stats: list[tuple[int, int, int] | None] = []
        for file in self._files:
            try:
                stat = file.stat()
            except OSError:
                stats.append(None)
            else:
                stats.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return stats
