"""Finds and ends the processes of one TorchServe: its Java frontend and the workers it starts."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

FRONTEND = "org.pytorch.serve.ModelServer"
LAUNCHER = "torchserve"
# The last parts of a worker's program: TorchServe's own, which Python runs, and the native one.
WORKERS = ("model_service_worker.py", "cpp/bin/model_worker_socket")
GRACE_S = 15.0
POLL_S = 0.05


def _matching(accept: Callable[[psutil.Process, list[str]], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        # A process may end while it is inspected, or belong to another user.
        with contextlib.suppress(psutil.Error, OSError):
            command = process.cmdline()
            if command and process.status() != psutil.STATUS_ZOMBIE and accept(process, command):
                found.append(process)
    return found


def frontends(home: Path) -> list[psutil.Process]:
    """Returns the Java frontends that run in this home folder, however they were started."""
    return _matching(lambda process, command: FRONTEND in command and Path(process.cwd()) == home)


def launchers(home: Path) -> list[psutil.Process]:
    """Returns the `torchserve` commands in this home that have not started their frontend yet."""

    def is_launcher(process: psutil.Process, command: list[str]) -> bool:
        starts = "--start" in command and any(Path(argument).name == LAUNCHER for argument in command[:2])
        return starts and Path(process.cwd()) == home

    return _matching(is_launcher)


def workers(home: Path, temp: Path, parents: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Returns the workers of these frontends, and those that a killed frontend of this home left behind."""
    pids = {parent.pid for parent in parents}

    def is_worker(process: psutil.Process, command: list[str]) -> bool:
        if not any(argument.endswith(WORKERS) for argument in command):
            return False
        if process.ppid() in pids:
            return True
        if any(Path(argument).parent == temp for argument in command if "/" in argument):
            return True
        # Of a worker whose frontend was started without `make start` and killed, only $PWD shows the home.
        parent = process.parent()
        orphan = parent is None or FRONTEND not in parent.cmdline()
        return orphan and process.environ().get("PWD") == str(home)

    return _matching(is_worker)


def used_temp_folder(frontend: psutil.Process) -> Path:
    """Returns the folder in which this frontend keeps its sockets and unpacked archives."""
    with contextlib.suppress(psutil.Error):
        for argument in frontend.cmdline():
            if argument.startswith("-Djava.io.tmpdir="):
                return Path(argument.partition("=")[2])
    return Path("/tmp")


def terminate(processes: list[psutil.Process], grace_s: float = GRACE_S) -> None:
    """Asks processes to end, and kills those that have not after `grace_s` seconds."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _still_alive(processes, grace_s):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _still_alive(processes, grace_s)


def alive(process: psutil.Process) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _still_alive(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if alive(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left


def find_listener(port: int) -> str:
    """Describes the process that listens on a TCP port, as far as this user may see it."""
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections(kind="tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(connection.pid)
                    return f"{process.name()}, pid {process.pid}, in {process.cwd()}"
                return f"pid {connection.pid}"
    return "a process of another user"


def memory(processes: Iterable[psutil.Process]) -> int:
    """Returns the resident memory of these processes together, in bytes."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def stale_sockets(folder: Path) -> list[Path]:
    """Returns this user's worker sockets in a folder that no process holds any more."""
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
