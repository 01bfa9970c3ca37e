"""Describes archives in a few lines."""

from __future__ import annotations

import os
from pathlib import Path

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import Container
from archive.packer.mar_manifest import read_runtime
from archive.packer.verify import has_manifest
from handlers.integrity.manifest import MANIFEST_FILE, Manifest, hash_file
from handlers.integrity.signing import SIGNATURE_FILE


def describe(path: Path, manifest: Manifest, *, signed: bool = False) -> str:
    """What an archive is: its name, version, profile, worker, size and sha256, and what its libraries need."""
    sha256, size = hash_file(path)
    with Container(path) as container:
        runtime = read_runtime(container)
    profile = "" if manifest.profile is None else f"profile {manifest.profile}, "
    packed = f"{manifest.name} {manifest.version}, {profile}runtime {runtime}"
    lines = [
        f"{packed}: {os.path.relpath(path)}, {size:,} bytes, sha256 {sha256}",
        *(f"  {name} needs {requirements.describe()}" for name, requirements in manifest.libraries.items()),
        *(["  signed"] if signed else []),
    ]
    return "\n".join(lines)


def describe_unchecked(path: Path) -> str:
    """Describes an archive by its own manifest, whether or not that is true.

    Raises:
        ArchiveError: naming the path and the reason.
    """
    try:
        with Container(path) as container:
            if not has_manifest(container):
                raise ArchiveError("it was not packed by opserve")
            manifest = Manifest.decode(container.read(MANIFEST_FILE))
            return describe(path, manifest, signed=SIGNATURE_FILE in container.names)
    except OpserveError as error:
        raise ArchiveError(f"{path}: {error}") from error
