"""Revives served models whose workers TorchServe no longer starts; a supervisor runs this.

TorchServe tries a worker that does not load again after 1, 1, 2, 3, 5, 8, … seconds, for at most maxRetryTimeoutInSec
(300 unless the archive says otherwise). After that it stays dead: setting the number of workers that the model already
has changes nothing. Setting it to none, and then to the right number again, restarts all of them.
"""

import argparse
import time

from archive.errors import OpserveError
from archive.process.command import run
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.server import Server, server_lock
from scripts.torchserve.workers import count_ended_workers, set_worker_limits

POLL_S = 0.05
# A model scaled to none has its workers killed; TorchServe itself waits this long for them.
TIMEOUT_S = 120.0


def revive(server: Server, model: str, workers: int, version: str = "") -> None:
    """Restarts all workers of a model; does not wait until they are ready.

    In between, requests get a 503. Workers that are ready are ended too, so this is for a model that has none, or whose
    caller replaces them anyway. `workers` is at least 1; an empty `version` means the default one.
    """
    described = server.describe(model, version)
    if described is None:
        raise OpserveError(f"no model {model!r} is served")
    max_workers = max(workers, int(described["maxWorkers"]))
    # The maximum too: if only the minimum is 0, TorchServe forgets its workers without ending them.
    set_worker_limits(server, model, version, 0, 0)
    deadline = time.monotonic() + TIMEOUT_S
    while (server.describe(model, version) or {}).get("workers"):
        if time.monotonic() > deadline:
            raise OpserveError(f"TorchServe did not end the workers of {model} in {TIMEOUT_S:.0f} s; `make stop start`")
        time.sleep(POLL_S)
    set_worker_limits(server, model, version, workers, max_workers)


def revive_all(server: Server) -> list[str]:
    """Revives every version of a model that should have workers, when all of them have ended.

    Returns:
        The names of those that did not load.
    """
    revived = []
    for model in server.models():
        for version, described in server.versions(model).items():
            min_workers, total = int(described["minWorkers"]), len(described["workers"])
            if min_workers and total and count_ended_workers(described) == total:
                revive(server, model, min_workers, version)
                revived.append(f"{model} {version}")
    return revived


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; exit code 0 means that every model has a worker that is ready or being started."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_server_arguments(parser)
    server = Server.from_arguments(parser.parse_args(arguments))
    # Not during a deploy, which starts and ends workers itself.
    with server_lock(server):
        revived = revive_all(server)
    for name in revived:
        print(f"{name} does not load; its workers are being restarted")
    return 1 if revived else 0


if __name__ == "__main__":
    run(main)
