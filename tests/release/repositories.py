"""Makes git repositories for tests: small ones, and copies of this one."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from manifests.release.source import ROOT


def commit(folder: Path, files: Mapping[str, str], time: int = 0) -> str:
    """Writes files, commits them at a time in a new repository, and returns the commit."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return _commit_all(folder, time)


def copy_of_this(folder: Path, time: int) -> Path:
    """Commits a copy of this repository as its work tree is, and returns its folder."""
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copyfile(ROOT / name, copy)

    _commit_all(folder, time)
    return folder


def _commit_all(folder: Path, time: int) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Add", time=time)
    return git(folder, "rev-parse", "HEAD")


def git(folder: Path, *arguments: str, time: int = 0) -> str:
    stamp = f"@{time} +0000"
    author = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@localhost", "GIT_AUTHOR_DATE": stamp}
    committer = {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@localhost", "GIT_COMMITTER_DATE": stamp}
    environ = {**os.environ, **author, **committer}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environ, check=True, capture_output=True, text=True
    ).stdout.strip()
