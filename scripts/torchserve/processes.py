"""Finds and ends the processes of one TorchServe: its Java frontend and the Python workers it starts."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

FRONTEND = "org.pytorch.serve.ModelServer"
LAUNCHER = "torchserve"
WORKER = "model_service_worker.py"
GRACE_S = 15.0
POLL_S = 0.05


def _matching(accept: Callable[[psutil.Process, list[str]], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        # A process may end, or belong to somebody else, while it is looked at.
        with contextlib.suppress(psutil.Error, OSError):
            command = process.cmdline()
            if command and process.status() != psutil.STATUS_ZOMBIE and accept(process, command):
                found.append(process)
    return found


def frontends(home: Path) -> list[psutil.Process]:
    """The Java frontends that run in this home folder, however they were started."""
    return _matching(lambda process, command: FRONTEND in command and Path(process.cwd()) == home)


def launchers(home: Path) -> list[psutil.Process]:
    """The `torchserve` commands of this home that have yet to start their frontend, however they were started."""

    def ours(process: psutil.Process, command: list[str]) -> bool:
        starts = "--start" in command and any(Path(argument).name == LAUNCHER for argument in command[:2])
        return starts and Path(process.cwd()) == home

    return _matching(ours)


def workers(home: Path, temp: Path, parents: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The workers of these frontends, and those that a killed frontend of this home left behind."""
    pids = {parent.pid for parent in parents}

    def ours(process: psutil.Process, command: list[str]) -> bool:
        if not any(argument.endswith(WORKER) for argument in command):
            return False
        if process.ppid() in pids:
            return True
        if any(Path(argument).parent == temp for argument in command if "/" in argument):
            return True
        # Started by hand, its frontend killed: the shell's current folder is the only trace of the home.
        parent = process.parent()
        orphan = parent is None or FRONTEND not in parent.cmdline()
        return orphan and process.environ().get("PWD") == str(home)

    return _matching(ours)


def used_temp_folder(frontend: psutil.Process) -> Path:
    """Where this frontend keeps its sockets and unpacked archives."""
    with contextlib.suppress(psutil.Error):
        for argument in frontend.cmdline():
            if argument.startswith("-Djava.io.tmpdir="):
                return Path(argument.partition("=")[2])
    return Path("/tmp")


def terminate(processes: list[psutil.Process], grace_s: float = GRACE_S) -> None:
    """Ask these processes to end, wait for it, and kill what is left after a bounded time."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _still_alive(processes, grace_s):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _still_alive(processes, grace_s)


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and that its parent has not noticed does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _still_alive(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if alive(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left


def listener(port: int) -> str:
    """Who listens on a TCP port, as far as this user may see."""
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(connection.pid)
                    return f"{process.name()}, pid {process.pid}, in {process.cwd()}"
                return f"pid {connection.pid}"
    return "a process of another user"


def memory(processes: Iterable[psutil.Process]) -> int:
    """Resident memory of these processes together, in bytes."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def stale_sockets(folder: Path) -> list[Path]:
    """Worker sockets of this user in a folder that no process holds any more."""
    try:
        held = {connection.laddr for connection in psutil.net_connections(kind="unix")}
    except psutil.AccessDenied:
        return []
    found = []
    for path in folder.glob(".ts.sock.*"):
        with contextlib.suppress(OSError):
            if str(path) not in held and path.lstat().st_uid == os.getuid():
                found.append(path)
    return found
