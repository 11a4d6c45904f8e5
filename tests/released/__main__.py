"""Keeps what a version left behind, for the tests of later versions: its chart, and the objects of its servers.

`python -m tests.released REVISION [NAME]` writes the folder NAME, or else REVISION, from the history of git. Files of a
version that is released never change.
"""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness.released_servers import CHART, FOLDER

CHART_IN_TREE = Path("charts/dittofs-operator")
GENERATOR = "tests.released.servers"


def main(revision: str, name: str) -> None:
    folder = FOLDER / name
    folder.mkdir()

    with TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        _check_out(revision, tree)
        shutil.copytree(tree / CHART_IN_TREE, folder / CHART)
        # It renders the objects by its own code, since that is what the servers of its users were made by.
        subprocess.run([sys.executable, "-m", GENERATOR, folder.absolute()], cwd=tree, check=True)


def _check_out(revision: str, tree: Path) -> None:
    archive = tree.with_suffix(".tar")
    subprocess.run(["git", "archive", f"--output={archive}", revision], cwd=FOLDER.parent.parent, check=True)
    with tarfile.open(archive) as opened:
        opened.extractall(tree, filter="data")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[-1])
