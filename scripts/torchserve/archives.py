"""Reads `.mar` archives: is one whole, what does it serve, and what sample request does it carry."""

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import Container
from archive.packer.names import is_name
from archive.packer.verify import MAR_MANIFEST_FILE, check_sealed, has_manifest
from archive.process.limits import Limits, call_limited
from handlers.integrity.requirements import LibraryRequirements
from handlers.integrity.signing import check_signature, public_key_path
from handlers.sample import TOLERANCE
from handlers.yaml_text import load_yaml

# TorchServe is given the names of the files: NAME=FILE would be another name for the model.
_FILE_NAME = re.compile(r"[A-Za-z0-9_.+@~ -]+\.mar")
# Bytes of a sample's request: as much as a server takes.
MAX_SAMPLE = 64 << 20


@dataclass(frozen=True)
class Sample:
    """A request that an archive carries, and the answer it must get."""

    parts: dict[str, bytes] = field(default_factory=dict)  # file name -> content, one multipart part each
    body: bytes | None = None  # or the whole JSON body
    answer: Any = None
    tolerance: float = TOLERANCE

    @property
    def files(self) -> dict[str, bytes]:
        """File name -> content; a whole body is `body.json`."""
        return self.parts if self.body is None else {"body.json": self.body}


@dataclass(frozen=True)
class Archive:
    """What is needed of a `.mar` in order to serve and try it."""

    path: Path
    model: str
    version: str
    sample: Sample | None


def read(path: Path) -> Archive:
    """Open an archive, check it without executing anything of it, and read its sample; the error names the file.

    An archive of opserve's packer must be as it was packed and fit for this machine, and where OPSERVE_PUBLIC_KEY
    demands it, signed; one of another packer must be whole and harmless to unpack. TorchServe itself only logs a broken
    archive, and starts without it.
    """
    try:
        if not _FILE_NAME.fullmatch(path.name):
            raise ArchiveError("TorchServe would take this file name for something else; rename it")
        found = call_limited(
            "scripts.torchserve.archives:read_checked",
            str(path.absolute()),
            public_key_path(),
            limits=Limits.of_file(path),
        )
        for name, needs in found["libraries"].items():
            LibraryRequirements.from_dict(needs, name).check_machine(name)
    except OpserveError as error:
        if not path.exists():
            raise OpserveError(f"{path} does not exist; `make archive` builds the archives") from None
        raise OpserveError(
            f"{path.name}: {error}; build it again (`make archive`) or take it out of {path.parent.name}/"
        ) from None
    return Archive(path, found["model"], found["version"], _decode(found["sample"]))


def read_checked(path: str, key: str | None) -> dict[str, Any]:
    """What `read` needs of an archive, as far as it does not depend on this machine; called where it can do no harm.

    Args:
        path: the archive.
        key: absolute path of a public key that it must be signed for, or `None`.

    Returns:
        `model` and `version`; `libraries`: what each needs; `sample`, its bytes in base64, or `None`.

    Raises:
        OpserveError: naming the file in it and the reason.
    """
    with Container(Path(path)) as archive:
        libraries = {}
        if has_manifest(archive):
            libraries = {name: needs.as_dict() for name, needs in check_sealed(archive, key).libraries.items()}
        else:
            check_signature(b"", None, key)
            archive.check_contents()
        return {"libraries": libraries} | _read(archive)


def _read(archive: Container) -> dict[str, Any]:
    names = set(archive.names)
    if MAR_MANIFEST_FILE not in names:
        raise ArchiveError(f"no TorchServe archive: it has no {MAR_MANIFEST_FILE}")
    try:
        model = json.loads(archive.read(MAR_MANIFEST_FILE))["model"]
        name, handler = model["modelName"], str(model["handler"]).partition(":")[0]
        version = model.get("modelVersion", "1.0")
        for text in (name, version):
            if not isinstance(text, str) or not is_name(text):
                raise ValueError(
                    f"{str(text)[:100]!r} is no name: letters, digits, '_', '-', '.', a letter or digit first"
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"its MANIFEST.json names no model or handler ({error})") from None
    # A handler without .py is one of TorchServe's own (image_classifier, ...).
    if handler.endswith(".py") and handler not in names:
        raise ArchiveError(f"the handler {handler} that it names is not in it")
    try:
        sample = _sample(archive, names, model.get("configFile"))
    except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ArchiveError(f"its sample cannot be read ({error})") from None
    return {"model": name, "version": version, "sample": sample}


def _sample(archive: Container, names: set[str], config: str | None) -> dict[str, Any] | None:
    requests = sorted(n for n in names if n.startswith("sample/request/") and not n.endswith("/"))
    if not requests:
        return None
    answer = json.loads(archive.read("sample/answer.json")) if "sample/answer.json" in names else None
    settings = load_yaml(archive.read(config).decode()) if config in names else None
    ours = (settings or {}).get("opserve") or {}
    tolerance = float(ours.get("tolerance", TOLERANCE))
    size = sum(archive.size(name) for name in requests)
    if size > MAX_SAMPLE:
        raise ValueError(f"its request has {size:,} bytes; {MAX_SAMPLE:,} would be plenty")
    parts = {PurePosixPath(name).name: base64.b64encode(archive.read(name)).decode() for name in requests}
    return {
        "parts": parts,
        "is_body": requests == ["sample/request/body.json"],
        "answer": answer,
        "tolerance": tolerance,
    }


def _decode(sample: dict[str, Any] | None) -> Sample | None:
    if sample is None:
        return None
    parts = {name: base64.b64decode(content) for name, content in sample["parts"].items()}
    given = {"body": parts["body.json"]} if sample["is_body"] else {"parts": parts}
    return Sample(**given, answer=sample["answer"], tolerance=sample["tolerance"])
