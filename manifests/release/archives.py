"""Packs files so that the same content gives the same bytes: sorted, with one time, and without owners."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO


def pack(archive: Path, files: Mapping[str, Path], time: int) -> None:
    """Writes a tar with the files under their names, compressed unless it is called .tar.

    Programs of the source stay executable.
    """
    with archive.open("wb") as raw:
        if archive.suffix == ".tar":
            _write(raw, files, time)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=time) as compressed:
            _write(compressed, files, time)


def _write(stream: IO[bytes] | gzip.GzipFile, files: Mapping[str, Path], time: int) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), time
            member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            tar.addfile(member, io.BytesIO(content))
