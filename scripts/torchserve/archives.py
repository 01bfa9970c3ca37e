"""Reads `.mar` archives from outside a worker: whether one is intact, what it serves, and its sample request."""

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from archive.errors import ArchiveError, OpserveError
from archive.packer.container import Container
from archive.packer.mar_manifest import MAR_MANIFEST_FILE, read_runtime
from archive.packer.names import is_name
from archive.packer.verify import check_container, has_manifest
from archive.process.limits import Limits, call_limited
from handlers.codecs.limits import TOLERANCE
from handlers.codecs.safe_yaml import load_yaml
from handlers.integrity.requirements import LibraryRequirements
from handlers.integrity.signing import check_signature, public_key_path

# TorchServe gets the names of the files on its command line, where NAME=FILE would rename the model.
_FILE_NAME = re.compile(r"[A-Za-z0-9_.+@~ -]+\.mar")
# The largest request of a sample in bytes: as much as a server takes.
MAX_SAMPLE = 64 << 20


@dataclass(frozen=True)
class Sample:
    """A request that an archive carries, and the answer that it must get.

    Attributes:
        parts: file name -> content, each a part of a multipart form.
        body: the whole JSON body, for a sample without parts.
        answer: the expected answer; None if the archive has none.
        tolerance: how far numbers may differ from it.
    """

    parts: dict[str, bytes] = field(default_factory=dict)
    body: bytes | None = None
    answer: Any = None
    tolerance: float = TOLERANCE

    @property
    def files(self) -> dict[str, bytes]:
        """File name -> content; a whole body is `body.json`."""
        return self.parts if self.body is None else {"body.json": self.body}


@dataclass(frozen=True)
class Archive:
    """The facts about a `.mar` with which it is served and tried; `runtime` is the worker that it is for, if known."""

    path: Path
    model: str
    version: str
    sample: Sample | None
    runtime: str | None = None

    def require_sample(self) -> Sample:
        """Returns the sample.

        Raises:
            OpserveError: the archive has none.
        """
        if self.sample is None:
            raise OpserveError(
                f"{self.path.name} contains no sample; `make archive` packs it with one, "
                "and `make predict MODEL=… REQUEST=file.json` sends a request of your own"
            )
        return self.sample


def find_archive(model_store: Path, model: str, version: str) -> Archive:
    """Looks for the archive of a version of a model.

    Raises:
        OpserveError: the model store has none.
    """
    named = [model_store / f"{model}.mar", model_store / f"{model}@{version}.mar"]
    others = sorted(set(model_store.glob("*.mar")) - set(named))
    for path in [path for path in named if path.is_file()] + others:
        archive = read_archive(path)
        if (archive.model, archive.version) == (model, version):
            return archive
    raise OpserveError(
        f"{model_store} holds no archive of {model} {version}; `make archive MODEL={model} VERSION={version}` makes one"
    )


def read_archive(path: Path) -> Archive:
    """Opens an archive, checks it without executing anything in it, and reads its sample.

    An archive of opserve's packer must be unchanged, fit for this machine, and signed if OPSERVE_PUBLIC_KEY asks for
    it; any other must be intact and safe to unpack. TorchServe itself only logs that an archive is broken, and starts
    without it.

    Raises:
        OpserveError: naming the file and the reason.
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
    return Archive(path, found["model"], found["version"], _decode(found["sample"]), found["runtime"])


def read_checked(path: str, key: str | None) -> dict[str, Any]:
    """The part of `read_archive` that does not depend on this machine; called in a process with limits.

    Args:
        path: the archive.
        key: absolute path of the public key that must have signed it, or None.

    Returns:
        `model`, `version` and `runtime`; `libraries`: the requirements of each; `sample`: its bytes in base64, or None.

    Raises:
        OpserveError: naming the file in it and the reason.
    """
    with Container(Path(path)) as archive:
        libraries = {}
        if has_manifest(archive):
            libraries = {name: needs.as_dict() for name, needs in check_container(archive, key).libraries.items()}
        else:
            check_signature(b"", None, key)
            archive.check_contents()
        return {"libraries": libraries, "runtime": read_runtime(archive)} | _read(archive)


def _read(archive: Container) -> dict[str, Any]:
    names = set(archive.names)
    if MAR_MANIFEST_FILE not in names:
        raise ArchiveError(f"not a TorchServe archive: it has no {MAR_MANIFEST_FILE}")
    try:
        model = json.loads(archive.read(MAR_MANIFEST_FILE))["model"]
        name, handler = model["modelName"], str(model["handler"]).partition(":")[0]
        version = model.get("modelVersion", "1.0")
        for text in (name, version):
            if not isinstance(text, str) or not is_name(text):
                raise ValueError(
                    f"{str(text)[:100]!r} is not a name: letters, digits, '_', '-', '.', a letter or digit first"
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"its MANIFEST.json does not name a model and handler ({error})") from None
    # A handler without .py is one of TorchServe's own (image_classifier, ...).
    if handler.endswith(".py") and handler not in names:
        raise ArchiveError(f"it does not contain its handler {handler}")
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
        raise ValueError(f"its request has {size:,} bytes, more than {MAX_SAMPLE:,}")
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
