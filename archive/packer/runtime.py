"""Which worker an archive is for: the native one, or TorchServe's in Python."""

from __future__ import annotations

import zipfile
from pathlib import Path

from archive.errors import ArchiveError
from archive.native_worker import NOT_BUILT, find_worker
from archive.packer.contents import ArchiveContents
from archive.packer.mar_manifest import NATIVE, PYTHON
from handlers.engines.package import is_compiled

RUNTIMES = (NATIVE, PYTHON)


def choose_runtime(contents: ArchiveContents, wanted: str | None = None) -> str:
    """The worker to pack for: the wanted one; otherwise the native one where it is built and can run the model.

    Raises:
        ArchiveError: the native one is wanted and cannot run the model.
    """
    if wanted not in (None, *RUNTIMES):
        raise ArchiveError(f"RUNTIME '{wanted}' is not allowed: {' or '.join(RUNTIMES)}")
    if wanted == PYTHON:
        return PYTHON
    obstacle = find_obstacle(contents)
    if wanted == NATIVE and obstacle:
        raise ArchiveError(f"{contents.name}: {obstacle}")
    return PYTHON if obstacle else NATIVE


def find_obstacle(contents: ArchiveContents) -> str | None:
    """Why the native worker cannot run a model here, and what to do; `None` if it can."""
    hooks, artifact = contents.hooks, contents.artifact
    if hooks and hooks.suffix != ".pt":
        return (
            f"{hooks.name}: the native worker runs hooks in TorchScript only; script them, or pack with RUNTIME=python"
        )
    if artifact.suffix == ".pt2" and not _is_compiled(artifact):
        return (
            f"{artifact.name}: the native worker runs exported programs only as AOTInductor packages; make one with "
            "torch._inductor.aoti_compile_and_package, or pack with RUNTIME=python"
        )
    formats = {artifact.suffix, *([hooks.suffix] if hooks else [])}
    return None if find_worker(*formats) else f"it needs the native worker, {NOT_BUILT}; or pack with RUNTIME=python"


def _is_compiled(path: Path) -> bool:
    try:
        return is_compiled(path)
    except (OSError, zipfile.BadZipFile):
        return False  # loading it says more
