"""Which families of addresses a process on this machine can use."""

import socket
from contextlib import suppress

import pytest


def has_ipv6() -> bool:
    """Tells whether `::1` can be bound: many containers have IPv4 alone."""
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
