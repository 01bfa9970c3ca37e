"""Checks, before a server starts, what TorchServe would fail at silently or with a Java stack trace.

Each check raises an OpserveError that names the file, folder or address, and what is wrong with it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from archive.errors import OpserveError
from archive.native_worker import NOT_BUILT, find_worker
from archive.packer.mar_manifest import NATIVE
from scripts.torchserve import processes
from scripts.torchserve.archives import Archive
from scripts.torchserve.ports import bind_error
from scripts.torchserve.server import Server

# A start writes less than this into its logs before it serves.
PROBE_BYTES = 64 * 1024


def check(server: Server) -> None:
    """Checks everything but the archives."""
    check_folders(server)
    check_ports(server)
    check_metrics_config(server)


def check_folders(server: Server) -> None:
    """Checks the folders and files that TorchServe reads and writes."""
    check_model_store(server.model_store)
    if not os.access(server.home, os.W_OK | os.X_OK):
        raise OpserveError(
            f"{server.home} cannot be written to ({_reason(server.home)}); TorchServe writes its tokens there"
        )
    if server.key_file.exists() and not (server.key_file.is_file() and os.access(server.key_file, os.W_OK)):
        what = "is a folder" if server.key_file.is_dir() else "cannot be written to"
        raise OpserveError(f"{server.key_file} {what}; TorchServe writes its tokens to a file of that name: remove it")
    try:
        server.logs.mkdir(exist_ok=True)
    except OSError as error:
        reason = "a file of that name exists" if isinstance(error, FileExistsError) else error.strerror
        raise OpserveError(f"cannot make the folder {server.logs}: {reason}") from None
    for log in server.logs.glob("*.log"):
        if not (log.is_file() and os.access(log, os.W_OK)):
            raise OpserveError(f"{log} cannot be written to ({_reason(log)}); remove it")
    check_writable(server.home)
    check_writable(server.logs)
    if os.path.lexists(server.temp):
        check_writable(server.make_temp())


def check_model_store(store: Path) -> None:
    """Checks that a model store is a folder that can be read."""
    if not store.exists():
        raise OpserveError(f"{store} does not exist; `make archive` builds the archives in it")
    if not store.is_dir():
        raise OpserveError(f"{store} is not a folder; it should be the one with the archives")
    if not os.access(store, os.R_OK | os.X_OK):
        raise OpserveError(f"{store} cannot be read by this user")


def check_workers(archives: Iterable[Archive]) -> None:
    """Checks that the native worker is there if an archive is for it; TorchServe would only log that it is not."""
    for archive in archives:
        if archive.runtime == NATIVE and find_worker() is None:
            raise OpserveError(
                f"{archive.path.name} is for the native worker, {NOT_BUILT}. Or pack it for Python: "
                f"make archive MODEL={archive.model} RUNTIME=python"
            )


def check_writable(folder: Path) -> None:
    """Checks that a few pages can be written into a folder."""
    probe = folder / f".room-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            # A quota or a network file system may not complain earlier.
            os.fsync(file.fileno())
    except OSError as error:
        raise OpserveError(f"cannot write into {folder}: {error.strerror}") from None
    finally:
        probe.unlink(missing_ok=True)


def check_ports(server: Server) -> None:
    """Checks that the server can listen on its addresses."""
    for name, (host, port) in server.ports().items():
        error = bind_error(port, host)
        if error is not None:
            holder = f" ({processes.find_listener(port)})" if "in use" in str(error) else ""
            raise OpserveError(
                f"{name} {host}:{port}: {error.strerror}{holder}; "
                f"stop that process, or set another {name} in {server.config.name}"
            )


def check_metrics_config(server: Server) -> None:
    """Checks that the declaration of the metrics exists."""
    name = server.properties.get("metrics_config")
    if name and not (server.home / name).is_file():
        raise OpserveError(
            f"metrics_config {name}: no such file in {server.home}; copy metrics.yaml there, or remove the line from "
            f"{server.config.name}"
        )


def _reason(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "its file system is read-only"
    return f"it belongs to user {path.stat().st_uid}" if path.stat().st_uid != os.getuid() else "its mode forbids it"
