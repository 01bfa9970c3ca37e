"""Makes the archive that is served: with a manifest of its files, perhaps signed, and in canonical form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from archive.packer.container import write_archive
from archive.packer.mar_manifest import MAR_MANIFEST_FILE, MAR_RUNTIMES, PYTHON
from archive.packer.requirements import is_library, read_requirements
from handlers.config import CONFIG_FILE, read_yaml
from handlers.integrity.manifest import MANIFEST_FILE, FileRecord, Manifest, hash_file
from handlers.integrity.signing import SIGNATURE_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# TorchServe wants to know when an archive was made; the same sources must give the same archive at any time.
CREATED_ON = "01/01/1980 00:00:00"


def write_archive_with_manifest(
    folder: Path, target: Path, key: Ed25519PrivateKey | None = None, runtime: str = PYTHON
) -> Manifest:
    """Writes the archive `target` from the folder that torch-model-archiver made, and signs it if there is a key.

    Args:
        folder: has the files of the archive, and nothing else.
        target: a file that does not exist.
        key: signs the archive.
        runtime: the worker that it is for.

    Raises:
        ArchiveError: a file in it cannot be part of an archive.
    """
    name, version = _complete(folder / MAR_MANIFEST_FILE, runtime)
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = Manifest(
        name=name,
        version=version,
        files={name: FileRecord(*hash_file(path)) for name, path in paths.items()},
        libraries={name: read_requirements(path) for name, path in paths.items() if is_library(path)},
        profile=read_yaml(folder / CONFIG_FILE)["opserve"].get("profile"),
    )
    content = manifest.encode()
    signature = {SIGNATURE_FILE: key.sign(content)} if key else {}
    write_archive(target, {**paths, MANIFEST_FILE: content, **signature})
    return manifest


def _complete(path: Path, runtime: str) -> tuple[str, str]:
    """Makes TorchServe's manifest the same in every build, and names the worker; returns the model's name and version.

    For the native one, torch-model-archiver would demand a shared library as the handler. TorchServe only passes the
    handler's name on, and so the same archive can also be registered with `runtime=python`.
    """
    document = json.loads(path.read_bytes())
    document["createdOn"], document["runtime"] = CREATED_ON, MAR_RUNTIMES[runtime]
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return document["model"]["modelName"], document["model"]["modelVersion"]
