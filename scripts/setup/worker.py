"""Puts the native worker, once built, where TorchServe looks for it in this environment."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from archive.errors import OpserveError
from archive.native_worker import ENGINES, PROGRAM
from archive.repository import BUILD

# Next to the link by which TorchServe finds it; the rest of the name depends on the contents.
PREFIX = ".opserve-worker-"
# Written by CMake where it cannot build the worker.
REASON_FILE = BUILD / "cmake" / "no-worker.txt"


def read_obstacle(file: Path = REASON_FILE) -> str | None:
    """Why the last build had no worker; `None` if it had one, or if nothing was built."""
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return None


def place(built: Path, link: Path) -> Path:
    """Copies the program and its engines next to `link`, which then leads to them; all appear at once.

    Workers that run keep their files. Returns the program, as TorchServe starts it.

    Args:
        built: the folder with `bin/` and `lib/` of a build.
        link: the folder `cpp` of TorchServe's package, in the environment.

    Raises:
        OpserveError: a folder of that name exists that is not ours.
    """
    if link.exists() and not link.is_symlink():
        raise OpserveError(f"{link} is there already, and not from opserve: move it away, and run this again")
    names = [PROGRAM, *(name for name in sorted(set(ENGINES.values())) if (built / name).is_file())]
    folder = link.with_name(f"{PREFIX}{_digest([built / name for name in names])}")
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=link.parent) as temporary:
            whole = Path(temporary, "whole")
            for name in names:
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(built / name, whole / name)
            # TorchServe wants it to be there.
            (whole / "lib").mkdir(exist_ok=True)
            whole.rename(folder)
    if not link.is_symlink() or link.readlink() != Path(folder.name):
        new = link.with_name(f"{folder.name}.link")
        new.unlink(missing_ok=True)
        new.symlink_to(folder.name)
        new.replace(link)
    for other in link.parent.glob(f"{PREFIX}*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return link / PROGRAM


def take_away(link: Path) -> None:
    """Removes what `place` has put there."""
    if link.is_symlink():
        link.unlink()
    for folder in link.parent.glob(f"{PREFIX}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
