"""Finds free ports on loopback."""

import os
import socket
from itertools import count

# Below the ports that the kernel gives to outgoing connections: otherwise one of these could take the port before the
# caller listens on it. Processes that search at the same time start at different places.
_FIRST, _COUNT = 20_000, 10_000
_numbers = count(os.getpid() * 1000)


def free_port() -> int:
    """Returns a port that nobody listens on, and never the same one twice."""
    while True:
        port = _FIRST + next(_numbers) % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue

            return port
