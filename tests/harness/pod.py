"""Runs the operator as in a pod, with a service account: `python -m tests.harness.pod FOLDER serve ...`.

At the end it writes the names of all modules that were imported into that folder.
"""

import sys
from pathlib import Path

from app.cluster import connection

MODULES = "modules"

if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    # Before anything else is imported, which takes it for a default.
    connection.SERVICE_ACCOUNT = folder
    try:
        from app.__main__ import main

        main()
    finally:
        (folder / MODULES).write_text("\n".join(sys.modules))
