"""The seal of an archive: `opserve.json`, which lists every other file and what the libraries among them need.

A worker checks its unpacked archive against it before it opens anything else. That catches damaged, mixed-up and unfit
archives, and with a public key in OPSERVE_PUBLIC_KEY those that were not signed with its private half. The code that
checks came with the archive, though, and who writes an archive can leave it out: one of unknown origin is checked from
outside, by `make start` or `python -m archive.packer.verify`, before a server gets it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from handlers.errors import ModelError
from handlers.integrity.requirements import LibraryNeeds

SEAL_FILE = "opserve.json"
# An ed25519 signature of the seal's bytes: 64 bytes. As the seal holds the hash of all else, it covers all.
SIGNATURE_FILE = "opserve.sig"
PUBLIC_KEY_VARIABLE = "OPSERVE_PUBLIC_KEY"
# Goes up when an older reader would misunderstand a newer archive.
FORMAT = 1
CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What the kernel leaves in the current folder of a worker that a signal ended.
_CORE_FILE = re.compile(r"core(\.\d+)?")


@dataclass(frozen=True)
class FileRecord:
    """What a file of the archive must be."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Seal:
    """What an archive is.

    Attributes:
        name: the model's name.
        version: the model's version.
        files: every file but the seal and its signature, by its path in the archive.
        libraries: what each shared library among them needs.
        profile: which of its configuration's profiles it was packed with, or `None` where that has none.
    """

    name: str
    version: str
    files: Mapping[str, FileRecord]
    libraries: Mapping[str, LibraryNeeds]
    profile: str | None = None

    def encode(self) -> bytes:
        """The one form in which a seal is written: its bytes are what is signed."""
        document = {
            "format": FORMAT,
            "model": {"name": self.name, "version": self.version}
            | ({} if self.profile is None else {"profile": self.profile}),
            "files": {name: {"sha256": it.sha256, "size": it.size} for name, it in self.files.items()},
            "libraries": {name: needs.as_dict() for name, needs in self.libraries.items()},
        }
        # Against damage of the seal itself; who changes it on purpose can compute this too.
        document["checksum"] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> Seal:
        """Reads a seal.

        Raises:
            ModelError: it is of another format, or not as the packer writes it.
        """
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{SEAL_FILE}: not JSON: {error}") from error
        if not isinstance(document, dict) or type(document.get("format")) is not int:
            raise ModelError(f"{SEAL_FILE}: not written by opserve's packer")
        if document["format"] != FORMAT:
            raise ModelError(f"{SEAL_FILE}: the archive is of format {document['format']}; this opserve reads {FORMAT}")
        try:
            seal = cls(
                name=_text(document["model"]["name"]),
                version=_text(document["model"]["version"]),
                files={name: _file_record(name, record) for name, record in document["files"].items()},
                libraries={
                    name: LibraryNeeds.from_dict(needs, f"{SEAL_FILE}: {name}")
                    for name, needs in document["libraries"].items()
                },
                profile=_text(document["model"]["profile"]) if "profile" in document["model"] else None,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(f"{SEAL_FILE}: not written by opserve's packer: {error!r}") from error
        if seal.encode() != content or not seal.libraries.keys() <= seal.files.keys():
            raise ModelError(f"{SEAL_FILE}: damaged, or changed after the packer wrote it")
        return seal

    def check_machine(self) -> None:
        """Raises `ModelError` unless this machine, its GPU left out, has what every library needs."""
        for name, needs in self.libraries.items():
            needs.check(name)


def check(folder: Path, gpu: int | None = None) -> Seal:
    """Checks an unpacked archive before anything in it is opened: its signature where a key is given, its files, and
    what its libraries need.

    Args:
        folder: the unpacked archive.
        gpu: the GPU that the server gave this worker, or `None`.

    Raises:
        ModelError: in one line, naming the file and the reason.
    """
    content = _read(folder / SEAL_FILE)
    if content is None:
        raise ModelError(f"{SEAL_FILE}: missing from the archive; pack it again with `make archive`")
    check_signature(content, _read(folder / SIGNATURE_FILE), demanded_key())
    seal = Seal.decode(content)
    check_files(folder, seal)
    seal.check_machine()
    if gpu is not None:
        _check_gpu(folder, seal, gpu)
    return seal


def check_files(folder: Path, seal: Seal) -> None:
    """Raises `ModelError` for a file of an unpacked archive that is missing, changed, or not in its seal."""
    found = _files(folder)
    for name in seal.files:
        if name not in found:
            raise ModelError(f"{name}: missing from the archive")
    for name in sorted(found - seal.files.keys() - {SEAL_FILE, SIGNATURE_FILE}):
        if not (_is_cached_bytecode(folder, name, seal) or _CORE_FILE.fullmatch(name)):
            raise ModelError(f"{name}: not a file of this archive; {SEAL_FILE} does not list it")
    for name, record in seal.files.items():
        check_content(name, record, *digest(folder / name))


def check_content(name: str, record: FileRecord, sha256: str, size: int) -> None:
    """Raises `ModelError` for contents that are not the ones the packer saw."""
    if size != record.size:
        raise ModelError(f"{name}: damaged or changed: it has {size:,} bytes, the packer wrote {record.size:,}")
    if sha256 != record.sha256:
        raise ModelError(f"{name}: damaged or changed: its sha256 is {sha256[:12]}…, not {record.sha256[:12]}…")


def digest(path: Path) -> tuple[str, int]:
    """The sha256 and the size of a file."""
    hashed, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    return hashed.hexdigest(), size


def demanded_key() -> str | None:
    """The public key that the environment demands archives to be signed for, or `None`."""
    return os.environ.get(PUBLIC_KEY_VARIABLE)


def check_signature(content: bytes, signature: bytes | None, key: str | None) -> None:
    """Checks the signature of a seal where a public key is given; without one, signed and unsigned are the same.

    Args:
        content: the seal's bytes.
        signature: the signature's bytes, or `None` if the archive has none.
        key: absolute path of the public key (PEM), or `None`.

    Raises:
        ModelError: there is a key, and no signature that its private half made of these bytes; or no such key.
    """
    if key is None:
        return
    public = _load_public_key(key)
    if signature is None:
        raise ModelError(f"{SIGNATURE_FILE}: missing: the archive is not signed, and {key} demands that it is")
    from cryptography.exceptions import InvalidSignature  # needed by those only who sign

    try:
        public.verify(signature, content)
    except InvalidSignature:
        raise ModelError(
            f"{SIGNATURE_FILE}: does not fit: {SEAL_FILE} was changed, or not signed with the private half of {key}"
        ) from None


def _load_public_key(key: str) -> Any:
    # A worker's current folder is the archive's own: a relative path would find the key there.
    if not Path(key).is_absolute():
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: expected the absolute path of a public key, got {key!r}")
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        public = load_pem_public_key(Path(key).read_bytes())
    except ImportError as error:
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: checking it needs the package cryptography: {error}") from error
    except OSError as error:
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: {key} cannot be read: {error.strerror}") from error
    except Exception as error:  # its parser raises many kinds
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: {key} holds no public key in PEM form") from error
    if not isinstance(public, Ed25519PublicKey):
        raise ModelError(f"{PUBLIC_KEY_VARIABLE}: {key} is no ed25519 key")
    return public


def _check_gpu(folder: Path, seal: Seal, gpu: int) -> None:
    # Only now: the files are known to be the archive's own, and the imports cost seconds.
    import torch

    from handlers.config import CONFIG_FILE, read_yaml

    section = read_yaml(folder / CONFIG_FILE).get("opserve")
    if not torch.cuda.is_available() or (isinstance(section, dict) and section.get("device") == "cpu"):
        return
    capability = torch.cuda.get_device_capability(gpu)
    for name, needs in seal.libraries.items():
        needs.check_gpu(name, capability)


def _files(folder: Path) -> set[str]:
    """Paths of all files in a folder, relative to it.

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


def _is_cached_bytecode(folder: Path, name: str, seal: Seal) -> bool:
    """Whether Python itself wrote this file beside a module of the archive, to be used only while that is unchanged."""
    path = PurePosixPath(name)
    source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    if path.suffix != ".pyc" or path.parent.name != "__pycache__" or str(source) not in seal.files:
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


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected text, got {value!r}")
    return value


def _file_record(name: str, record: Any) -> FileRecord:
    if not _SHA256.fullmatch(record["sha256"]) or type(record["size"]) is not int or record["size"] < 0:
        raise ValueError(f"{name}: expected a sha256 and a size")
    return FileRecord(record["sha256"], record["size"])
