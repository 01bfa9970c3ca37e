"""Gets a served model going again whose workers TorchServe has stopped starting.

A worker that does not load is tried again after 1, 1, 2, 3, 5, 8, … seconds, and for maxRetryTimeoutInSec (300 unless
the archive says otherwise) at most. After that it stays dead: setting the number of workers that the model has already
changes nothing. Without any worker, and then with the number it shall have, all of them are started afresh.
"""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import contextlib
import json
import time
from typing import Any

from archive.errors import OpserveError
from archive.process.command import run
from scripts.torchserve.lock import server_lock
from scripts.torchserve.server import Server, add_arguments, reason

# What TorchServe calls a worker that has ended and waits for its next try, if there is to be one.
ENDED = "UNLOADING"
POLL_S = 0.05
# Workers are killed, not asked, when a model is scaled to none; TorchServe itself waits this long for them.
TIMEOUT_S = 120.0
# For a call that is answered at once.
REQUEST_S = 30.0


def ended_workers(description: dict[str, Any]) -> int:
    """How many workers of a described model have ended, whether TorchServe means to try them again or not."""
    return sum(worker["status"] == ENDED for worker in description.get("workers", []))


def stand_ins(server: Server, description: dict[str, Any]) -> list[str]:
    """The errors for which workers of a described model came up without it and answer 503 in its place."""
    pids = {int(worker["pid"]) for worker in description.get("workers", []) if worker["status"] == "READY"}
    found = []
    for path in (server.temp / "models").glob(".*.load"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(path.read_text())
            if state.get("stands_in") in pids:
                found.append(str(state["error"]))
    return found


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
    set_limits(server, model, version, 0, 0)
    deadline = time.monotonic() + TIMEOUT_S
    while (server.describe(model, version) or {}).get("workers"):
        if time.monotonic() > deadline:
            raise OpserveError(f"TorchServe did not end the workers of {model} in {TIMEOUT_S:.0f} s; `make stop start`")
        time.sleep(POLL_S)
    set_limits(server, model, version, workers, most)


def worker_path(model: str, fewest: int, most: int, version: str = "") -> str:
    """The call of the management API that asks for a number of workers, and is answered at once.

    With `synchronous=true` TorchServe would block one of the threads that serve every client's connections until the
    model is loaded.
    """
    name = f"{model}/{version}" if version else model
    return f"/models/{name}?min_worker={fewest}&max_worker={most}&synchronous=false"


def set_limits(server: Server, model: str, version: str, fewest: int, most: int, timeout: float = REQUEST_S) -> None:
    """Set how many workers a version of a model (the default one if empty) has at least and at most; does not wait.

    Raises:
        OpserveError: TorchServe refused.
    """
    answer = server.request("management", "PUT", worker_path(model, fewest, most, version), timeout)
    if answer.status_code >= 300:
        raise OpserveError(f"TorchServe did not scale {model}{version and ' '}{version}: {reason(answer.text)}")


def revive_all(server: Server) -> list[str]:
    """Revive every version of a model that should have workers and of which none is left, nor being started.

    Returns:
        The names of those that do not load.
    """
    found = []
    for model in server.models():
        for version, described in server.versions(model).items():
            fewest, its = int(described["minWorkers"]), described["workers"]
            if fewest and its and ended_workers(described) == len(its):
                revive(server, model, fewest, version)
                found.append(f"{model} {version}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry point, for the supervisor: exit code 0 when every model has a worker that answers or is being started."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    server = Server.of(parser.parse_args(arguments))
    # Not during a deploy, which starts and ends workers itself.
    with server_lock(server):
        dead = revive_all(server)
    for name in dead:
        print(f"{name} does not load; its workers are started afresh")
    return 1 if dead else 0


if __name__ == "__main__":
    run(main)
