"""Gets a served model going again whose workers TorchServe has stopped starting.

A worker that does not load is tried again after 1, 1, 2, 3, 5, 8, … seconds, and for maxRetryTimeoutInSec (300 unless
the archive says otherwise) at most. After that it stays dead: setting the number of workers that the model has already
changes nothing. Without any worker, and then with the number it shall have, all of them are started afresh.
"""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import time

from archive.errors import OpserveError
from archive.process.command import run
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.lock import server_lock
from scripts.torchserve.server import Server
from scripts.torchserve.workers import count_ended_workers, set_worker_limits

POLL_S = 0.05
# Workers are killed, not asked, when a model is scaled to none; TorchServe itself waits this long for them.
TIMEOUT_S = 120.0


def revive(server: Server, model: str, workers: int, version: str = "") -> None:
    """Have all workers of a model started afresh, so many of them; does not wait until they are ready.

    In between, new requests are answered 503. Workers that answer are ended too, so this is for a model of which none
    does, or whose caller replaces them all the same.

    Args:
        server: a server that runs.
        model: the name of a served model.
        workers: how many workers it shall have, at least 1.
        version: the version; the default one unless given.

    Raises:
        OpserveError: no such model, or TorchServe refused.
    """
    described = server.describe(model, version)
    if described is None:
        raise OpserveError(f"no model {model!r} is served")
    most = max(workers, int(described["maxWorkers"]))
    # At most none, too: with only the fewest at none TorchServe forgets its workers and does not end them.
    set_worker_limits(server, model, version, 0, 0)
    deadline = time.monotonic() + TIMEOUT_S
    while (server.describe(model, version) or {}).get("workers"):
        if time.monotonic() > deadline:
            raise OpserveError(f"TorchServe did not end the workers of {model} in {TIMEOUT_S:.0f} s; `make stop start`")
        time.sleep(POLL_S)
    set_worker_limits(server, model, version, workers, most)


def revive_all(server: Server) -> list[str]:
    """Revive every version of a model that should have workers and of which none is left, nor being started.

    Returns:
        The names of those that do not load.
    """
    found = []
    for model in server.models():
        for version, described in server.versions(model).items():
            fewest, its = int(described["minWorkers"]), described["workers"]
            if fewest and its and count_ended_workers(described) == len(its):
                revive(server, model, fewest, version)
                found.append(f"{model} {version}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry point, for the supervisor: exit code 0 when every model has a worker that answers or is being started."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_server_arguments(parser)
    server = Server.from_arguments(parser.parse_args(arguments))
    # Not during a deploy, which starts and ends workers itself.
    with server_lock(server):
        dead = revive_all(server)
    for name in dead:
        print(f"{name} does not load; its workers are started afresh")
    return 1 if dead else 0


if __name__ == "__main__":
    run(main)
