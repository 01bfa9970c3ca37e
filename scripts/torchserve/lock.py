"""Lets one command at a time change the server of a home folder."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from archive.errors import OpserveError
from scripts.torchserve.server import Server

POLL_S = 0.1


@contextlib.contextmanager
def server_lock(server: Server, wait_s: float = 0) -> Iterator[None]:
    """Keeps other starts, stops and deploys of a home folder out; waits for one that is running for `wait_s` seconds.

    Raises:
        OpserveError: another one is still running.
    """
    try:
        folder = os.open(server.home, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OpserveError(f"cannot open the folder {server.home}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise OpserveError(
                        f"another start, stop or deploy of {server.home} is running; try again when it is done"
                    ) from None
                time.sleep(POLL_S)
        yield
    finally:
        os.close(folder)
