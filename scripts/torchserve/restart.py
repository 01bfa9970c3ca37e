"""Starts a server that has ended again, with what it served last; called by its supervisor.

Unlike a start, it leaves the server running when a model does not load or answers its sample otherwise than before: the
others are served meanwhile.
"""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import time

from archive.errors import OpserveError
from archive.process.command import run
from archive.process.signals import deferred
from scripts import start, supervise
from scripts.predict import try_sample
from scripts.stop import alone, clear
from scripts.torchserve import archives as mar
from scripts.torchserve import faults, processes, recovery, snapshot
from scripts.torchserve.server import Server
from scripts.torchserve.worker_log import LogMark

KEPT = (supervise.PID_FILE, supervise.STATE_FILE, snapshot.FILE)
# A deploy that lost its server gives up sooner.
OTHERS_END_WITHIN_S = 60.0
POLL_S = 0.1


def last_archives(server: Server, models: list[str], known: list[snapshot.ServedVersion]) -> list[mar.Archive]:
    """The archives of what was served last, or, where that is not known, those of a start."""
    if not known:
        return start.chosen_archives(server, models)
    found = []
    for each in known:
        try:
            found.append(mar.read(server.model_store / each.archive))
        except OpserveError as error:
            print(f"{each.model} {each.version} is left out: {error}")
    if not found:
        raise OpserveError(f"{server.model_store} has none of the archives that were served")
    return found


def wait_answering(server: Server, timeout: float, mark: LogMark) -> None:
    """Wait until a server that was launched answers at its management address."""
    frontend = server.frontend()
    deadline = time.monotonic() + timeout
    while not start._answers(server):
        if frontend is None or not processes.alive(frontend):
            raise OpserveError(f"TorchServe ended while it started:\n{start._reason(server, mark)}")
        if time.monotonic() > deadline:
            raise OpserveError(f"it does not answer at {server.address('management')} after {timeout:.0f} s")
        time.sleep(POLL_S)


def restore(server: Server, each: snapshot.ServedVersion) -> None:
    """Give a version the workers that it had, and its place as the default one."""
    described = server.describe(each.model, each.version)
    if described is None:
        return
    if (int(described["minWorkers"]), int(described["maxWorkers"])) != (each.fewest, each.most):
        recovery.set_limits(server, each.model, each.version, each.fewest, each.most)
    if each.default and (server.describe(each.model) or {}).get("modelVersion") != each.version:
        server.request("management", "PUT", f"/models/{each.model}/{each.version}/set-default")


def restart(server: Server, models: list[str], timeout: float, model_api: bool, quiet: bool) -> int:
    """Start the server again; 0 when it answers, whatever its models do."""
    frontend = server.frontend()
    if frontend is not None:
        return 0 if processes.used_temp_folder(frontend) == server.temp else supervise.NOT_OURS
    known = snapshot.load(server)
    clear(server, KEPT)
    faults.check(server)
    start.check_ports(server)
    start.check_metrics(server)
    archives = last_archives(server, models, known)
    mark = LogMark(server.logs)
    begun = time.monotonic()
    try:
        frontend = start.launch(server, archives, model_api, quiet)
        wait_answering(server, timeout, mark)
    except BaseException:
        with deferred():
            clear(server, KEPT)
        raise
    for archive in archives:
        try:
            start.wait_ready(server, frontend, [archive], mark, timeout)
            try_sample(server, f"{archive.model}/{archive.version}", archive, archive.model)
        except OpserveError as error:
            if not processes.alive(frontend):
                raise
            print(f"{archive.model} {archive.version}: {error}")
    for each in known:
        restore(server, each)
    print(f"answering again after {time.monotonic() - begun:.1f} s")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point: the arguments are those of start.py."""
    options = start.parse(arguments)
    server = Server.of(options)
    with alone(server, OTHERS_END_WITHIN_S):
        return restart(server, options.models, options.timeout, options.model_api, options.quiet)


if __name__ == "__main__":
    run(main)
