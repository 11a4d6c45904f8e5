"""Threads that work beside a test for as long as a `with` lasts."""

import threading
from typing import Self


class Background(threading.Thread):
    """A thread whose `run` returns soon after `ending` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self.join()
