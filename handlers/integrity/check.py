"""The check that a worker makes of its unpacked archive before it opens anything else in it.

It catches damaged, mixed-up and unfit archives and, with a public key in OPSERVE_PUBLIC_KEY, those that were not signed
with its private half. The code that checks came with the archive, though, and whoever wrote that could leave it out: an
archive of unknown origin is checked from outside, by `make start` or `python -m archive.verify`, before a server
gets it.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath

from handlers.errors import ModelError
from handlers.integrity.manifest import MANIFEST_FILE, Manifest, hash_file
from handlers.integrity.signing import SIGNATURE_FILE, check_signature, public_key_path

# What the kernel leaves in the current folder of a worker that a signal ended.
_CORE_FILE = re.compile(r"core(\.\d+)?")


def check_archive(folder: Path) -> Manifest:
    """Checks an unpacked archive: its signature if a key demands one, its files, and what its libraries require.

    The GPU is left to `Manifest.check_gpu`.

    Raises:
        ModelError: in one line, naming the file and the reason.
    """
    content = _read(folder / MANIFEST_FILE)
    if content is None:
        raise ModelError(f"{MANIFEST_FILE}: missing from the archive; pack it again with `make archive`")
    check_signature(content, _read(folder / SIGNATURE_FILE), public_key_path())
    manifest = Manifest.decode(content)
    _check_files(folder, manifest)
    manifest.check_machine()
    return manifest


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Raises `ModelError` for a file that is missing, changed, or not in the manifest."""
    found = _find_files(folder)
    for name in manifest.files:
        if name not in found:
            raise ModelError(f"{name}: missing from the archive")
    for name in sorted(found - manifest.files.keys() - {MANIFEST_FILE, SIGNATURE_FILE}):
        if not (_is_cached_bytecode(folder, name, manifest) or _CORE_FILE.fullmatch(name)):
            raise ModelError(f"{name}: not a file of this archive; {MANIFEST_FILE} does not list it")
    for name, record in manifest.files.items():
        record.check(name, *hash_file(folder / name))


def _find_files(folder: Path) -> set[str]:
    """The paths of all files in a folder, relative to it.

    Raises:
        ModelError: something in it is neither a file nor a folder.
    """
    found = set()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.add(relative)
            elif not stat.S_ISDIR(mode):
                raise ModelError(f"{relative}: a link or special file, which no archive has")
    return found


def _is_cached_bytecode(folder: Path, name: str, manifest: Manifest) -> bool:
    """Whether Python wrote this file for a module of the archive, to be used only while that is unchanged."""
    path = PurePosixPath(name)
    source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    if path.suffix != ".pyc" or path.parent.name != "__pycache__" or str(source) not in manifest.files:
        return False
    with (folder / name).open("rb") as file:
        # Flags other than 0 tell Python not to compare the file with its source.
        return file.read(8)[4:] == bytes(4)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path.name}: cannot be read: {error.strerror}") from error
