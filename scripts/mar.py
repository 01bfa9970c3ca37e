"""Reads `.mar` archives: is one whole, what does it serve, and what sample request does it carry."""

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from archive.container import Container
from archive.errors import ArchiveError
from archive.verify import MANIFEST_FILE, check_sealed, is_sealed
from handlers.errors import ModelError
from handlers.sample import TOLERANCE
from handlers.seal import check_signature, demanded_key
from scripts.errors import OpserveError


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
    remedy = f"build it again (`make archive`) or take it out of {path.parent.name}/"
    try:
        with Container(path) as archive:
            if is_sealed(archive):
                check_sealed(archive, demanded_key()).check_machine()
            else:
                check_signature(b"", None, demanded_key())
                archive.check_contents()
            return _read(path, archive, remedy)
    except (ArchiveError, ModelError) as error:
        if not path.exists():
            raise OpserveError(f"{path} does not exist; `make archive` builds the archives") from None
        raise OpserveError(f"{path.name}: {error}; {remedy}") from None
    except OSError as error:
        raise OpserveError(f"{path.name} cannot be read: {error.strerror}") from None


def _read(path: Path, archive: Container, remedy: str) -> Archive:
    names = set(archive.names)
    if MANIFEST_FILE not in names:
        raise OpserveError(f"{path.name} is no TorchServe archive: it has no {MANIFEST_FILE}; {remedy}")
    try:
        model = json.loads(archive.read(MANIFEST_FILE))["model"]
        name, handler = str(model["modelName"]), str(model["handler"]).partition(":")[0]
        version = str(model.get("modelVersion", "1.0"))
        if not name:
            raise ValueError("an empty modelName")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OpserveError(f"{path.name}: its MANIFEST.json names no model or handler ({error!r}); {remedy}") from None
    # A handler without .py is one of TorchServe's own (image_classifier, ...).
    if handler.endswith(".py") and handler not in names:
        raise OpserveError(f"{path.name}: the handler {handler} that it names is not in it; {remedy}")
    try:
        sample = _sample(archive, names, model.get("configFile"))
    except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise OpserveError(f"{path.name}: its sample cannot be read ({error}); {remedy}") from None
    return Archive(path, name, version, sample)


def _sample(archive: Container, names: set[str], config: str | None) -> Sample | None:
    requests = sorted(n for n in names if n.startswith("sample/request/") and not n.endswith("/"))
    if not requests:
        return None
    answer = json.loads(archive.read("sample/answer.json")) if "sample/answer.json" in names else None
    settings = yaml.safe_load(archive.read(config)) if config in names else None
    ours = (settings or {}).get("opserve") or {}
    tolerance = float(ours.get("tolerance", TOLERANCE))
    if requests == ["sample/request/body.json"]:
        return Sample(body=archive.read(requests[0]), answer=answer, tolerance=tolerance)
    parts = {PurePosixPath(n).name: archive.read(n) for n in requests}
    return Sample(parts=parts, answer=answer, tolerance=tolerance)
