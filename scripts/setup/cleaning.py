"""Removes what `make` can build again, but not archives that only their owner could make again.

Standard library only, and readable to an old Python, because it also runs where there is no environment.
"""

import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from archive.repository import find_models

FOLDERS = ("build", ".mypy_cache", ".pytest_cache", ".ruff_cache")
DEFAULT_VERSION = "1.0"
# Left by a packer that was killed.
_PARTIAL = re.compile(r"\..+\.mar\.[a-z0-9_]{8}")
MAX_BYTES = 16 << 20


def clean(root: Path) -> None:
    """Removes what can be built again, and prints what stays and why."""
    store = root / "model_store"
    # A link is the user's own arrangement: neither it nor its target is touched.
    found = sorted(store.iterdir()) if store.is_dir() and not store.is_symlink() else []
    for path in found:
        if path.name.endswith(".mar"):
            reason = find_reason_to_keep(path, root)
        else:
            reason = None if _PARTIAL.fullmatch(path.name) and path.is_file() else "it is not an archive"
        if reason is None:
            path.unlink()
        else:
            print(f"kept {path.relative_to(root)}: {reason}")
    for name in FOLDERS:
        path = root / name
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(str(path), ignore_errors=True)
    _remove_worker(root / ".venv")
    if found and any(store.iterdir()):
        print(f"`make` cannot build these again; `rm -r {store.relative_to(root)}` removes them")
    elif store.is_dir() and not store.is_symlink():
        store.rmdir()


def _remove_worker(environment: Path) -> None:
    """Removes the native worker (scripts/setup/worker.py) from an environment that is not that of another folder."""
    if environment.is_symlink():
        return
    for path in environment.glob("lib/python*/site-packages/ts/cpp"):
        if path.is_symlink():
            path.unlink()
    for path in environment.glob("lib/python*/site-packages/ts/.opserve-worker-*"):
        shutil.rmtree(str(path), ignore_errors=True)


def find_reason_to_keep(path: Path, root: Path) -> "str | None":
    """Why an archive cannot be built again from the files in `root`; None if it can."""
    name = path.stem
    if path.is_symlink():
        return "it is a link"
    if name not in find_models(root):
        return "its model is not one of archive/"
    try:
        with zipfile.ZipFile(str(path)) as archive:
            manifest = _read(archive, "opserve.json")
            model = _read(archive, "MAR-INF/MANIFEST.json")["model"]
            signed = "opserve.sig" in archive.namelist()
        packed = manifest["files"][model["serializedFile"]]["sha256"]
        built = root / "build" / "models" / name / model["serializedFile"]
        if (manifest["model"]["name"], manifest["model"]["version"]) != (name, DEFAULT_VERSION):
            return "it contains {name} {version}".format(**manifest["model"])
    except Exception:  # of any kind: `make archive` did not write it like this
        return "it cannot be read"
    if signed:
        return "it is signed"
    if not built.is_file() or _sha256(built) != packed:
        return f"its model is not the one in build/models/{name}"
    return None


def _read(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(name)
    return json.loads(archive.read(name).decode())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
