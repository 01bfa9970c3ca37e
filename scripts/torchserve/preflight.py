"""What keeps a server from writing its files, said before it starts: afterwards it would fail without a word."""

import os
from pathlib import Path

from archive.errors import OpserveError
from scripts.torchserve.server import Server

# What a start writes into its logs before it serves; less than this and the first lines are lost.
LOG_ROOM_BYTES = 64 * 1024


def check_folders(server: Server) -> None:
    """Refuse a home whose folders and files TorchServe cannot use.

    Raises:
        OpserveError: names the file or folder, and the fault.
    """
    check_model_store(server.model_store)
    if not os.access(server.home, os.W_OK | os.X_OK):
        raise OpserveError(
            f"{server.home} cannot be written to ({_why(server.home)}); TorchServe writes its tokens there"
        )
    if server.key_file.exists() and not (server.key_file.is_file() and os.access(server.key_file, os.W_OK)):
        what = "is a folder" if server.key_file.is_dir() else "cannot be written to"
        raise OpserveError(
            f"{server.key_file} {what}; TorchServe writes its tokens to a file of that name: take it away"
        )
    try:
        server.logs.mkdir(exist_ok=True)
    except OSError as error:
        fault = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise OpserveError(f"cannot make the folder {server.logs}: {fault}") from None
    for log in server.logs.glob("*.log"):
        if not (log.is_file() and os.access(log, os.W_OK)):
            raise OpserveError(f"{log} cannot be written to ({_why(log)}); take it away")
    check_writable(server.home)
    check_writable(server.logs)
    if os.path.lexists(server.temp):
        check_writable(server.make_temp())


def check_writable(folder: Path) -> None:
    """Try whether a few pages can be written into a folder.

    Raises:
        OpserveError: they cannot, with the reason.
    """
    probe = folder / f".room-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(bytes(LOG_ROOM_BYTES))
            file.flush()
            # A quota or a file system over a network may say so only then.
            os.fsync(file.fileno())
    except OSError as error:
        raise OpserveError(f"cannot write into {folder}: {error.strerror}") from None
    finally:
        probe.unlink(missing_ok=True)


def check_model_store(store: Path) -> None:
    """Refuse a model store that is not there or cannot be read.

    Raises:
        OpserveError: names it, and the fault.
    """
    if not store.exists():
        raise OpserveError(f"{store} does not exist; `make archive` builds the archives in it")
    if not store.is_dir():
        raise OpserveError(f"{store} is no folder; the archives are to lie in one")
    if not os.access(store, os.R_OK | os.X_OK):
        raise OpserveError(f"{store} cannot be read by this user")


def _why(path: Path) -> str:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "its file system is read-only"
    return f"it belongs to user {path.stat().st_uid}" if path.stat().st_uid != os.getuid() else "its mode forbids it"
