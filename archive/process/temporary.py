"""Temporary files and folders of which none stays: removed at the end of a block, or, after a kill, by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from archive.process.signals import deferred


@contextlib.contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """An empty folder of a random name, gone when the block ends, also by an exception.

    It is locked for as long: one of the same kind that nobody has locked was left behind by a process that was killed,
    and is removed first.

    Args:
        prefix: what its name begins with, in opserve only in this one's.
        parent: where it lies (the folder for temporary files).
    """
    around = Path(tempfile.gettempdir()) if parent is None else parent
    remove_abandoned(prefix, around)
    # A signal between making it and being able to remove it would leave it.
    with contextlib.ExitStack() as clean:
        with deferred():
            folder, lock = _locked(lambda: tempfile.mkdtemp(prefix=prefix, dir=around))
            clean.callback(os.close, lock)
            clean.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextlib.contextmanager
def temporary_file(prefix: str, parent: Path) -> Iterator[Path]:
    """An empty file of a random name, gone when the block ends unless it was renamed; as `temporary_folder` else."""
    remove_abandoned(prefix, parent)
    with contextlib.ExitStack() as clean:
        with deferred():
            file, lock = _locked(lambda: _empty_file(prefix, parent))
            clean.callback(os.close, lock)
            clean.callback(file.unlink, missing_ok=True)
        yield file


def remove_abandoned(prefix: str, parent: Path) -> None:
    """Removes this user's temporary files and folders that no process has locked any more."""
    for path in parent.iterdir():
        # As `tempfile` names them.
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


def _locked(make) -> tuple[Path, int]:
    while True:
        path = Path(make())
        # Between making and locking it another process may take it for one that was left behind.
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
    # Neither through a link nor by waiting for whoever writes to a pipe.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
