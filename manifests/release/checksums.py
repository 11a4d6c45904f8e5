"""Lists the digests of a release in the format of `sha256sum`, which checks them with --check."""

import hashlib
from pathlib import Path

SUMS = "SHA256SUMS"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> Path:
    """Writes the digests of all files of the folder, but for the list itself."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    sums = folder / SUMS
    sums.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))
    return sums
