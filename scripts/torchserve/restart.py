"""Starts a server that has ended, with what it served last; its supervisor runs this.

Unlike a start, it keeps the server running when a model does not load or answers its sample incorrectly: the others are
served meanwhile.
"""

import argparse
import time

from archive.errors import OpserveError
from archive.process.command import run
from archive.process.signals import deferred
from scripts.torchserve import preflight, processes, snapshot, supervision, workers
from scripts.torchserve.archives import Archive, read_archive
from scripts.torchserve.arguments import StartOptions, add_start_arguments
from scripts.torchserve.cleanup import clean_up
from scripts.torchserve.client import check_sample
from scripts.torchserve.launch import launch
from scripts.torchserve.model_store import select_archives
from scripts.torchserve.readiness import wait_until_answering, wait_until_ready
from scripts.torchserve.server import Server, server_lock
from scripts.torchserve.snapshot import ServedVersion
from scripts.torchserve.worker_log import LogMark

KEPT = (supervision.PID_FILE, supervision.STATE_FILE, snapshot.FILE)
# A deploy that has lost its server gives up sooner.
OTHERS_END_WITHIN_S = 60.0


def _select_last(server: Server, models: list[str], last: list[ServedVersion]) -> list[Archive]:
    """Reads the archives that were served last, or, where that is not known, those that a start would serve."""
    if not last:
        return select_archives(server, models)
    found = []
    for each in last:
        try:
            found.append(read_archive(server.model_store / each.archive))
        except OpserveError as error:
            print(f"{each.model} {each.version} is left out: {error}")
    if not found:
        raise OpserveError(f"none of the archives that were served is in {server.model_store}")
    return found


def _restore(server: Server, last: ServedVersion) -> None:
    """Gives a version the number of workers that it had, and makes it the default if it was."""
    described = server.describe(last.model, last.version)
    if described is None:
        return
    if (int(described["minWorkers"]), int(described["maxWorkers"])) != (last.min_workers, last.max_workers):
        workers.set_worker_limits(server, last.model, last.version, last.min_workers, last.max_workers)
    if last.default and (server.describe(last.model) or {}).get("modelVersion") != last.version:
        server.request("management", "PUT", f"/models/{last.model}/{last.version}/set-default")


def restart(server: Server, options: StartOptions) -> int:
    """Starts the server again unless it is running, and returns the exit code.

    0 when it answers, whatever its models do; NOT_OURS when another server, not started by `make start`, is running.
    """
    frontend = server.frontend()
    if frontend is not None:
        return 0 if processes.used_temp_folder(frontend) == server.temp else supervision.NOT_OURS
    last = snapshot.load(server)
    clean_up(server, KEPT)
    preflight.check(server)
    archives = _select_last(server, options.models, last)
    mark, begun = LogMark(server.logs), time.monotonic()
    try:
        frontend = launch(server, archives, model_api=options.model_api, quiet=options.quiet)
        wait_until_answering(server, frontend, mark, options.timeout)
    except BaseException:
        with deferred():
            clean_up(server, KEPT)
        raise
    for archive in archives:
        try:
            wait_until_ready(server, frontend, [archive], mark, options.timeout)
            check_sample(server, f"{archive.model}/{archive.version}", archive, archive.model)
        except OpserveError as error:
            if not processes.alive(frontend):
                raise
            print(f"{archive.model} {archive.version}: {error}")
    for each in last:
        _restore(server, each)
    print(f"answering again after {time.monotonic() - begun:.1f} s")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command, with the arguments of a start."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_start_arguments(parser)
    options = parser.parse_args(arguments)
    server = Server.from_arguments(options)
    with server_lock(server, OTHERS_END_WITHIN_S):
        return restart(server, StartOptions.from_arguments(options))


if __name__ == "__main__":
    run(main)
