"""Free ports on loopback."""

import os
import socket
from itertools import count

# Below those that the kernel gives to connections on their way out: one of these could take the port that was found
# before whoever asked for it listens. Processes that look at once begin at different places.
_FIRST, _COUNT = 20_000, 10_000
_numbers = count(os.getpid() * 1000)


def free_port() -> int:
    """Never the same one twice."""
    while True:
        port = _FIRST + next(_numbers) % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
