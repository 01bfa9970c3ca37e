"""TCP ports: whether a server could listen on one, and which are free."""

import random
import socket

from archive.errors import OpserveError

# Below the ports that Linux gives to outgoing connections, one of which could otherwise take a port before its server.
_FIRST, _LAST = 10_000, 32_000
_TRIES = 1000
_returned = set()  # type: set[int]


def bind_error(port: int, host: str = "127.0.0.1") -> "OSError | None":
    """The error with which a server would fail to listen on a port, or None where it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As Java binds: connections that were closed but linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def free_ports(count: int) -> "list[int]":
    """Finds consecutive ports on which nothing listens; a process never gets the same port twice.

    Raises:
        OpserveError: none were found.
    """
    for _ in range(_TRIES):
        first = random.SystemRandom().randrange(_FIRST, _LAST - count)
        found = range(first, first + count)
        if _returned.isdisjoint(found) and all(bind_error(port) is None for port in found):
            _returned.update(found)
            return list(found)
    raise OpserveError(f"found no {count} consecutive ports that are free")
