"""The two workers that an archive can be for, and archives packed for either."""

from pathlib import Path

import pytest

from archive.native_worker import NOT_BUILT, find_worker
from archive.packer.manifest import write_archive_with_manifest
from archive.packer.mar_manifest import NATIVE, PYTHON
from archive.packer.pack import unpack
from handlers.integrity.manifest import MANIFEST_FILE

RUNTIMES = (PYTHON, NATIVE)


def require(runtime: str, *formats: str) -> str:
    """Returns the runtime; skips the test if it is the native one, and that cannot run these formats here."""
    if runtime == NATIVE and find_worker(*(formats or (".pt", ".onnx"))) is None:
        pytest.skip(NOT_BUILT)
    return runtime


def packed_for(archive: Path, runtime: str, folder: Path) -> Path:
    """Writes the same archive for a runtime into a folder: it has the same files."""
    files = unpack(archive, folder / f"{archive.stem}-files")
    (files / MANIFEST_FILE).unlink()
    write_archive_with_manifest(files, folder / archive.name, None, runtime)
    return folder / archive.name
