"""Ends every process of a home's server and removes what they, or killed ones, left behind."""

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import psutil

from archive.errors import OpserveError
from scripts.torchserve import processes
from scripts.torchserve.server import Server
from scripts.torchserve.supervision import SERVER_PID_FILE

# A worker has nothing to finish once its frontend is gone.
WORKER_GRACE_S = 3.0


def clean_up(server: Server, keep: Collection[str] = ()) -> bool:
    """Ends the frontends and workers of a home and cleans up, but for the temporary files named in `keep`.

    The caller holds the server's lock. Returns whether anything was running.
    """
    ran = False
    # Launchers first, until there are none: each may have started a frontend just before it ended.
    while launchers := processes.launchers(server.home):
        processes.terminate(launchers, WORKER_GRACE_S)
        ran = True
    frontends = processes.frontends(server.home)
    workers = processes.workers(server.home, server.temp, frontends)
    folders = {processes.used_temp_folder(frontend) for frontend in frontends} | {Path("/tmp"), server.temp}
    pids = {frontend.pid for frontend in frontends}
    unpacked = {folder for folder in map(_unpacked_folder, workers) if folder is not None}
    # The frontend first: it would replace a worker that ends before it.
    processes.terminate(frontends)
    processes.terminate(workers, WORKER_GRACE_S)
    for folder in folders:
        # A folder that other servers use too is touched only where a server of this home ended.
        if _remove_pid_file(folder / SERVER_PID_FILE, pids):
            for path in processes.stale_sockets(folder):
                path.unlink(missing_ok=True)
    for folder in unpacked:
        shutil.rmtree(folder, ignore_errors=True)
        # Written next to it by the workers (handlers/torchserve/stand_in.py).
        for path in folder.parent.glob(f".{folder.name}.*"):
            path.unlink(missing_ok=True)
    server.remove_temp(keep)
    left = processes.frontends(server.home) + processes.workers(server.home, server.temp, [])
    if left:
        raise OpserveError(f"these processes did not end: {', '.join(str(process.pid) for process in left)}")
    try:
        # On a read-only file system, removing a file that does not exist is an error too.
        if os.path.lexists(server.key_file):
            server.key_file.unlink(missing_ok=True)
    except OSError as error:
        kind = " is a folder" if server.key_file.is_dir() else f": {error.strerror}"
        raise OpserveError(
            f"{server.key_file}{kind}; TorchServe writes its tokens to a file of that name: remove it"
        ) from None
    return bool(ran or frontends or workers)


def _unpacked_folder(worker: psutil.Process) -> Path | None:
    """Returns the folder that TorchServe unpacked this worker's archive into."""
    with contextlib.suppress(psutil.Error):
        folder = Path(worker.cwd())
        if folder.parent.name == "models" and (folder / "MAR-INF").is_dir():
            return folder
    return None


def _remove_pid_file(path: Path, ended: set[int]) -> bool:
    """Removes a pid file that names an ended process or none, and returns whether it did."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text().strip())
        if pid in ended or not Path(f"/proc/{pid}").exists():
            path.unlink()
            return True
    return False
