"""Starts kubectl's plugin in the single file; linked as `kubectl_complete-dittofs`, the file completes for kubectl."""

import sys
from pathlib import Path

from app.__main__ import complete, main


def launch(program: str) -> None:
    if Path(program).name == "kubectl_complete-dittofs":
        complete()
    else:
        main()


if __name__ == "__main__":
    launch(sys.argv[0])
