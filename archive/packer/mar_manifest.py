"""TorchServe's own manifest in an archive, which says what runs it."""

from __future__ import annotations

import json
from pathlib import Path

from archive.packer.container import Container

MAR_MANIFEST_FILE = "MAR-INF/MANIFEST.json"
# The workers that an archive can be for, and TorchServe's names for them.
PYTHON, NATIVE = "python", "native"
MAR_RUNTIMES = {PYTHON: "python", NATIVE: "LSP"}
RUNTIMES = {name: runtime for runtime, name in MAR_RUNTIMES.items()}


def read_runtime(archive: Container) -> str | None:
    """The worker that an archive is for; `None` if it is another, or if the manifest is damaged or not there."""
    try:
        return RUNTIMES.get(json.loads(archive.read(MAR_MANIFEST_FILE))["runtime"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return None


def is_for_native(folder: Path) -> bool:
    """Whether an unpacked and checked archive is for the native worker."""
    return json.loads((folder / MAR_MANIFEST_FILE).read_bytes())["runtime"] == MAR_RUNTIMES[NATIVE]
