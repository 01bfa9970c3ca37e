"""The manifest of an archive, `opserve.json`: the hash of every other file, and what the libraries require."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.errors import ModelError
from handlers.integrity.requirements import LibraryRequirements

MANIFEST_FILE = "opserve.json"
# Goes up when an older reader would misunderstand a newer archive.
FORMAT = 1
CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """What a file of the archive must be."""

    sha256: str
    size: int

    def check(self, name: str, sha256: str, size: int) -> None:
        """Raises `ModelError` for contents of the file `name` that differ from what the packer saw."""
        if size != self.size:
            raise ModelError(f"{name}: damaged or changed: it has {size:,} bytes, the packer wrote {self.size:,}")
        if sha256 != self.sha256:
            raise ModelError(f"{name}: damaged or changed: its sha256 is {sha256[:12]}…, not {self.sha256[:12]}…")


@dataclass(frozen=True)
class Manifest:
    """What an archive contains.

    Attributes:
        name: the model's name.
        version: the model's version.
        files: every file except the manifest and its signature, by its path in the archive.
        libraries: what each shared library among them requires.
        profile: the profile of its configuration that it was packed with, or `None` if that has none.
    """

    name: str
    version: str
    files: Mapping[str, FileRecord]
    libraries: Mapping[str, LibraryRequirements]
    profile: str | None = None

    def encode(self) -> bytes:
        """The only form in which a manifest is written; these bytes are what is signed."""
        document = {
            "format": FORMAT,
            "model": {"name": self.name, "version": self.version}
            | ({} if self.profile is None else {"profile": self.profile}),
            "files": {name: {"sha256": record.sha256, "size": record.size} for name, record in self.files.items()},
            "libraries": {name: requirements.as_dict() for name, requirements in self.libraries.items()},
        }
        # Guards against accidental damage of the manifest; anyone who changes it on purpose can recompute this.
        document["checksum"] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> Manifest:
        """Reads a manifest.

        Raises:
            ModelError: it has another format, or is not as the packer writes it.
        """
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{MANIFEST_FILE}: not JSON: {error}") from error
        if not isinstance(document, dict) or type(document.get("format")) is not int:
            raise ModelError(f"{MANIFEST_FILE}: not written by opserve's packer")
        if document["format"] != FORMAT:
            raise ModelError(
                f"{MANIFEST_FILE}: the archive has format {document['format']}; this opserve reads {FORMAT}"
            )
        try:
            manifest = cls(
                name=_text(document["model"]["name"]),
                version=_text(document["model"]["version"]),
                files={name: _file_record(name, record) for name, record in document["files"].items()},
                libraries={
                    name: LibraryRequirements.from_dict(requirements, f"{MANIFEST_FILE}: {name}")
                    for name, requirements in document["libraries"].items()
                },
                profile=_text(document["model"]["profile"]) if "profile" in document["model"] else None,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(f"{MANIFEST_FILE}: not written by opserve's packer: {error!r}") from error
        if manifest.encode() != content or not manifest.libraries.keys() <= manifest.files.keys():
            raise ModelError(f"{MANIFEST_FILE}: damaged, or changed after the packer wrote it")
        return manifest

    def check_machine(self) -> None:
        """Raises `ModelError` unless this machine, leaving aside its GPU, meets every library's requirements."""
        for name, requirements in self.libraries.items():
            requirements.check_machine(name)

    def check_gpu(self, capability: tuple[int, int]) -> None:
        """Raises `ModelError` unless every library with GPU code has some for this compute capability."""
        for name, requirements in self.libraries.items():
            requirements.check_gpu(name, capability)


def hash_file(path: Path) -> tuple[str, int]:
    """The sha256 and the size of a file."""
    hashed, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    return hashed.hexdigest(), size


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected text, got {value!r}")
    return value


def _file_record(name: str, record: Any) -> FileRecord:
    if not _SHA256.fullmatch(record["sha256"]) or type(record["size"]) is not int or record["size"] < 0:
        raise ValueError(f"{name}: expected a sha256 and a size")
    return FileRecord(record["sha256"], record["size"])
