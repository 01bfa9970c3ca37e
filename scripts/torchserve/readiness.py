"""Waits until a server that was started is ready, or reports why it is not going to be."""

import contextlib
import time

import psutil

from archive.errors import OpserveError
from scripts.torchserve import preflight, processes
from scripts.torchserve.archives import Archive
from scripts.torchserve.server import Server
from scripts.torchserve.worker_log import LogMark, model_name
from scripts.torchserve.workers import count_ready_workers

POLL_S = 0.1
CONSOLE = "console.log"


def console_text(server: Server) -> str:
    """Returns the last lines that the Java process itself wrote."""
    with contextlib.suppress(OSError):
        lines = (server.logs / CONSOLE).read_text(errors="replace").splitlines()
        text = "\n".join(line for line in lines if not line.startswith("Warning: TorchServe is using"))[-4000:]
        if text:
            return text
    try:
        preflight.check_writable(server.logs)
    except OpserveError as error:
        return str(error)
    return "(it wrote nothing)"


def wait_until_answering(server: Server, frontend: psutil.Process, mark: LogMark, timeout: float) -> None:
    """Waits until the server answers at its management address, or ends."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(OpserveError):  # not listening yet, or a key file that is not written yet
            server.models()
            return
        _require_alive(server, frontend, mark)
        if time.monotonic() > deadline:
            raise OpserveError(
                f"it does not answer at {server.address('management')} after {timeout:.0f} s; `make logs` shows more"
            )
        time.sleep(POLL_S)


def wait_until_ready(
    server: Server, frontend: psutil.Process, archives: list[Archive], mark: LogMark, timeout: float
) -> None:
    """Waits until every model has a worker that is ready; fails as soon as a worker dies or an archive is refused."""
    deadline = time.monotonic() + timeout
    waiting = {(archive.model, archive.version) for archive in archives}
    while waiting:
        for archive, reason in mark.refused_archives():
            raise OpserveError(f"TorchServe cannot open {archive}: {reason.strip()}; build it again (`make archive`)")
        for worker in mark.dead_workers():
            raise OpserveError(f"a worker of {model_name(worker)} died while loading:\n{mark.last_output(worker)}")
        _require_alive(server, frontend, mark)
        waiting -= {each for each in waiting if _is_ready(server, *each)}
        if waiting and time.monotonic() > deadline:
            raise OpserveError(
                f"not ready after {timeout:.0f} s: {', '.join(sorted(map(' '.join, waiting)))}; "
                f"{server.logs}/model_log.log shows what the workers do; --timeout waits longer"
            )
        time.sleep(POLL_S)


def _require_alive(server: Server, frontend: psutil.Process, mark: LogMark) -> None:
    if not processes.alive(frontend):
        errors = [line for line in mark.text(mark.ts_log).splitlines() if "[ERROR]" in line or "Exception" in line]
        raise OpserveError("\n".join(["TorchServe ended while it was starting:", *errors[:5], console_text(server)]))


def _is_ready(server: Server, model: str, version: str) -> bool:
    try:
        described = server.describe(model, version)
    except OpserveError:  # not listening yet, or a key file that is not written yet
        return False
    if described is None:
        return False
    return count_ready_workers(described) > 0 or int(described["minWorkers"]) == 0
