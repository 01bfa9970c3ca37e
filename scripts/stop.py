"""Stops the server of a home folder and removes what it, or one that was killed, left behind."""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from scripts import processes
from scripts.errors import OpserveError, run
from scripts.server import Server, add_arguments

PID_FILE = ".model_server.pid"
# A worker has nothing to finish once its frontend is gone.
WORKER_GRACE_S = 3.0


@contextlib.contextmanager
def alone(server: Server) -> Iterator[None]:
    """Let one start, stop or deploy of a home folder run at a time."""
    folder = os.open(server.home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise OpserveError(
            f"another start, stop or deploy of {server.home} is under way; try again when it is done"
        ) from None
    try:
        yield
    finally:
        os.close(folder)


def stop(server: Server) -> bool:
    """End the frontends and workers of this home and clean up; True when something ran."""
    frontends = processes.frontends(server.home)
    workers = processes.workers(server.home, server.temp, frontends)
    folders = {processes.temp_folder(frontend) for frontend in frontends} | {Path("/tmp"), server.temp}
    pids = {frontend.pid for frontend in frontends}
    unpacked = {folder for folder in map(_unpacked, workers) if folder is not None}
    # The frontend first: it would replace a worker that ends before it.
    processes.end(frontends)
    processes.end(workers, WORKER_GRACE_S)
    for folder in folders:
        # A folder that other servers share is touched only where a server ended.
        if _remove_pid_file(folder / PID_FILE, pids):
            for path in processes.stale_sockets(folder):
                path.unlink(missing_ok=True)
    for folder in unpacked:
        shutil.rmtree(folder, ignore_errors=True)
    server.key_file.unlink(missing_ok=True)
    server.remove_temp()
    left = processes.frontends(server.home) + processes.workers(server.home, server.temp, [])
    if left:
        raise OpserveError(f"these processes did not end: {', '.join(str(process.pid) for process in left)}")
    return bool(frontends or workers)


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
    with alone(server):
        print("stopped" if stop(server) else f"not running: no TorchServe in {server.home}")
    return 0


if __name__ == "__main__":
    run(main)
