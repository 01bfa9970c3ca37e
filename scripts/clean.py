"""Removes what `make` can build again: `build/`, caches, and the archives of the models in archive/.

Archives that only their owner could make again stay. Standard library only, and readable to an old Python, because it
also runs where there is no environment.
"""

import argparse
import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

from archive.repository import ROOT, find_models

FOLDERS = ("build", ".pytest_cache", ".ruff_cache")
DEFAULT_VERSION = "1.0"
# The packer's, cut short by a kill.
_PARTIAL = re.compile(r"\..+\.mar\.[a-z0-9_]{8}")
MOST_BYTES = 16 << 20


def reason_to_keep(path, root):
    """Why an archive cannot be built again from what lies in `root`; None when it can."""
    name = path.stem
    if path.is_symlink():
        return "it is a link"
    if name not in find_models(root):
        return "it is of no model in archive/"
    try:
        with zipfile.ZipFile(str(path)) as archive:
            seal = _read(archive, "opserve.json")
            model = _read(archive, "MAR-INF/MANIFEST.json")["model"]
            signed = "opserve.sig" in archive.namelist()
        packed = seal["files"][model["serializedFile"]]["sha256"]
        built = root / "build" / "models" / name / model["serializedFile"]
        if (seal["model"]["name"], seal["model"]["version"]) != (name, DEFAULT_VERSION):
            return "it holds {name} {version}".format(**seal["model"])
    except Exception:  # whatever it is, `make archive` did not write it like this
        return "it cannot be read"
    if signed:
        return "it is signed"
    if not built.is_file() or _sha256(built) != packed:
        return f"its model is not the one in build/models/{name}"
    return None


def _read(archive, name):
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise ValueError(name)
    return json.loads(archive.read(name).decode())


def _sha256(path):
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            hashed.update(chunk)
    return hashed.hexdigest()


def clean(root):
    """Remove what can be built again, and say what stays and why."""
    store = root / "model_store"
    # A link is somebody's arrangement: neither it nor what it leads to is touched.
    found = sorted(store.iterdir()) if store.is_dir() and not store.is_symlink() else []
    for path in found:
        if path.name.endswith(".mar"):
            reason = reason_to_keep(path, root)
        else:
            reason = None if _PARTIAL.fullmatch(path.name) and path.is_file() else "it is no archive"
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
    if found and any(store.iterdir()):
        print(f"`make` builds none of these again; `rm -r {store.relative_to(root)}` removes them")
    elif store.is_dir() and not store.is_symlink():
        store.rmdir()


def main():
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (this one)")
    clean(parser.parse_args().root.resolve())


if __name__ == "__main__":
    main()
