"""Stops the server of a home folder and removes what it, or one that was killed, left behind."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from archive.errors import OpserveError
from archive.process.command import run
from scripts import supervise
from scripts.torchserve import processes
from scripts.torchserve.server import Server, add_arguments

PID_FILE = supervise.SERVER_PID_FILE
# A worker has nothing to finish once its frontend is gone.
WORKER_GRACE_S = 3.0
RESTART_ENDS_WITHIN_S = 60.0
POLL_S = 0.1


@contextlib.contextmanager
def alone(server: Server, wait_s: float = 0) -> Iterator[None]:
    """Let one start, stop or deploy of a home folder run at a time; wait for another for so many seconds."""
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
                        f"another start, stop or deploy of {server.home} is under way; try again when it is done"
                    ) from None
                time.sleep(POLL_S)
        yield
    finally:
        os.close(folder)


def end_supervisor(server: Server) -> bool:
    """End the process that would start this server again, if there is one; True when it did.

    Not when this is what the supervisor itself has called.
    """
    pid = supervise.supervisor_pid(server.temp)
    if pid is None:
        return False
    try:
        supervisor = psutil.Process(pid)
        if pid in {parent.pid for parent in psutil.Process().parents()}:
            return False
        # It ends what it has begun, which may be a start.
        processes.terminate([supervisor], supervise.CHILD_GRACE_S)
    except psutil.NoSuchProcess:
        pass
    return True


def stop(server: Server) -> bool:
    """End the supervisor, the frontends and the workers of this home and clean up; True when something ran."""
    supervised = end_supervisor(server)
    return clear(server) or supervised


def clear(server: Server, keep: Collection[str] = ()) -> bool:
    """End the frontends and workers of this home and clean up, but for some files; True when something ran."""
    ran = False
    # What starts a frontend first, and then once more: it may have done so just before it ended.
    while launchers := processes.launchers(server.home):
        processes.terminate(launchers, WORKER_GRACE_S)
        ran = True
    frontends = processes.frontends(server.home)
    workers = processes.workers(server.home, server.temp, frontends)
    folders = {processes.used_temp_folder(frontend) for frontend in frontends} | {Path("/tmp"), server.temp}
    pids = {frontend.pid for frontend in frontends}
    unpacked = {folder for folder in map(_unpacked, workers) if folder is not None}
    # The frontend first: it would replace a worker that ends before it.
    processes.terminate(frontends)
    processes.terminate(workers, WORKER_GRACE_S)
    for folder in folders:
        # A folder that other servers share is touched only where a server ended.
        if _remove_pid_file(folder / PID_FILE, pids):
            for path in processes.stale_sockets(folder):
                path.unlink(missing_ok=True)
    for folder in unpacked:
        shutil.rmtree(folder, ignore_errors=True)
        # What its workers have noted beside it (handlers/torchserve/stand_in.py).
        for path in folder.parent.glob(f".{folder.name}.*"):
            path.unlink(missing_ok=True)
    server.remove_temp(keep)
    left = processes.frontends(server.home) + processes.workers(server.home, server.temp, [])
    if left:
        raise OpserveError(f"these processes did not end: {', '.join(str(process.pid) for process in left)}")
    try:
        # Looked for first: removing what is not there is an error too where the file system is read-only.
        if os.path.lexists(server.key_file):
            server.key_file.unlink(missing_ok=True)
    except OSError as error:
        kind = " is a folder" if server.key_file.is_dir() else f": {error.strerror}"
        raise OpserveError(
            f"{server.key_file}{kind}; TorchServe writes its tokens to a file of that name: take it away"
        ) from None
    return bool(ran or frontends or workers)


def _unpacked(worker: psutil.Process) -> Path | None:
    """The folder that TorchServe unpacked this worker's archive into."""
    with contextlib.suppress(psutil.Error):
        folder = Path(worker.cwd())
        if folder.parent.name == "models" and (folder / "MAR-INF").is_dir():
            return folder
    return None


def _remove_pid_file(path: Path, ended: set[int]) -> bool:
    """Remove a pid file that names one of the processes just ended, or one that is gone; True when it did."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text().strip())
        if pid in ended or not Path(f"/proc/{pid}").exists():
            path.unlink()
            return True
    return False


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    server = Server.of(parser.parse_args(arguments))
    # The supervisor may be starting the server at this moment; a deploy or a start by somebody else is respected.
    pid = supervise.supervisor_pid(server.temp)
    restarting = pid is not None and supervise.state(server.temp).get("now") == "restarting"
    supervised = restarting and end_supervisor(server)
    with alone(server, RESTART_ENDS_WITHIN_S if restarting else 0):
        print("stopped" if stop(server) or supervised else f"not running: no TorchServe in {server.home}")
    return 0


if __name__ == "__main__":
    run(main)
