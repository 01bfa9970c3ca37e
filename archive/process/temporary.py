"""Temporary files and folders, removed at the end of a block, or after a kill by the next such block."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from archive.process.signals import deferred


@contextlib.contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """An empty folder with a random name, removed when the block ends, also by an exception.

    It is locked until then: a folder of this kind that is not locked was left behind by a killed process, and is
    removed first.

    Args:
        prefix: the start of its name, which nothing else in opserve uses.
        parent: the folder to make it in (that for temporary files).
    """
    around = Path(tempfile.gettempdir()) if parent is None else parent
    remove_abandoned(prefix, around)
    # A signal before its removal is registered would leave it behind.
    with contextlib.ExitStack() as clean:
        with deferred():
            folder, lock = _locked(lambda: tempfile.mkdtemp(prefix=prefix, dir=around))
            clean.callback(os.close, lock)
            clean.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextlib.contextmanager
def temporary_file(prefix: str, parent: Path) -> Iterator[Path]:
    """Like `temporary_folder`, an empty file; one that was renamed in the block stays."""
    remove_abandoned(prefix, parent)
    with contextlib.ExitStack() as clean:
        with deferred():
            file, lock = _locked(lambda: _empty_file(prefix, parent))
            clean.callback(os.close, lock)
            clean.callback(file.unlink, missing_ok=True)
        yield file


def remove_abandoned(prefix: str, parent: Path) -> None:
    """Removes this user's temporary files and folders that no process has locked."""
    for path in parent.iterdir():
        # The names that `tempfile` makes.
        if not re.fullmatch(f"{re.escape(prefix)}[a-z0-9_]{{8}}", path.name):
            continue
        with contextlib.suppress(OSError):
            lock = _open(path)
            try:
                state = os.fstat(lock)
                if state.st_uid != os.getuid() or not (stat.S_ISDIR(state.st_mode) or stat.S_ISREG(state.st_mode)):
                    continue
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(state.st_mode):
                    shutil.rmtree(path)
                else:
                    path.unlink()
            finally:
                os.close(lock)


def _locked(make: Callable[[], str]) -> tuple[Path, int]:
    while True:
        path = Path(make())
        # Before it is locked, another process may take it for one that was left behind.
        with contextlib.suppress(FileNotFoundError):
            lock = _open(path)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return path, lock
            os.close(lock)


def _empty_file(prefix: str, parent: Path) -> str:
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=parent)
    os.close(descriptor)
    return name


def _open(path: Path) -> int:
    # Neither following a link nor waiting for the writer of a pipe.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
