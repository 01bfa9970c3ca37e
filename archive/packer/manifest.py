"""Turns what torch-model-archiver made into the archive that is served: sealed, perhaps signed, in canonical form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from archive.packer.container import write_archive
from archive.packer.requirements import is_library, read_needs
from archive.packer.verify import MAR_MANIFEST_FILE
from handlers.config import CONFIG_FILE, read_yaml
from handlers.integrity.manifest import MANIFEST_FILE, FileRecord, Manifest, hash_file
from handlers.integrity.signing import SIGNATURE_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# TorchServe wants to be told when an archive was made; the same sources give the same archive at any time.
CREATED_ON = "01/01/1980 00:00:00"


def seal_archive(folder: Path, target: Path, key: Ed25519PrivateKey | None = None) -> Manifest:
    """Writes the archive `target` of an unpacked one that torch-model-archiver made, which it completes on the way.

    Raises:
        ArchiveError: a file in it cannot be part of an archive.
    """
    name, version = settle_manifest(folder / MAR_MANIFEST_FILE)
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    seal = Manifest(
        name=name,
        version=version,
        files={name: FileRecord(*hash_file(path)) for name, path in paths.items()},
        libraries={name: read_needs(path) for name, path in paths.items() if is_library(path)},
        profile=read_yaml(folder / CONFIG_FILE)["opserve"].get("profile"),
    )
    content = seal.encode()
    extra = {MANIFEST_FILE: content} | ({SIGNATURE_FILE: key.sign(content)} if key else {})
    write_archive(target, paths | extra)
    return seal


def settle_manifest(path: Path) -> tuple[str, str]:
    """Takes the time out of TorchServe's manifest, the one thing in it that differs between two builds.

    Returns:
        The model's name and version.
    """
    manifest = json.loads(path.read_bytes())
    manifest["createdOn"] = CREATED_ON
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return manifest["model"]["modelName"], manifest["model"]["modelVersion"]
