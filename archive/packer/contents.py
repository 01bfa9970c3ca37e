"""What goes into an archive: gathered from a folder under `archive/`, or from someone else's files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from archive.errors import ArchiveError
from archive.packer.profiles import choose_profile
from archive.repository import BUILD, ROOT
from handlers.config import CONFIG_FILE, ModelConfig, read_yaml
from handlers.engines.op_library import cuda_library
from handlers.signature import TensorSpec

MODELS = ROOT / "archive"

DEFAULT_VERSION = "1.0"
# TorchServe's own rule for a model's name, and names and versions must do as a folder and in a URL.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclass(frozen=True)
class ArchiveContents:
    """Everything that one archive is made of, checked to exist.

    Attributes:
        name: the model's name.
        version: the model's version.
        document: `model-config.yaml`, parsed and complete, with the settings of the chosen profile.
        config: its `opserve:` section.
        artifact: the model file.
        op_libraries: the shared libraries that `config` names, in its order.
        hooks: the module with `preprocess`/`postprocess`, or `None`.
        sample: folder with `request/` and `answer.json`; or a JSON file holding only a request's body; or `None`.
    """

    name: str
    document: dict[str, Any]
    config: ModelConfig
    artifact: Path
    op_libraries: tuple[Path, ...]
    hooks: Path | None
    sample: Path | None
    version: str = DEFAULT_VERSION

    @property
    def file_name(self) -> str:
        """The archive's: `digits.mar`, and `digits@2.0.mar` for another version, so that both can lie side by side.
        No name holds an `@`."""
        return f"{self.name}.mar" if self.version == DEFAULT_VERSION else f"{self.name}@{self.version}.mar"


def known_models() -> list[str]:
    """Names of the models described under `archive/`."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{CONFIG_FILE}"))


def contents_of_model(
    name: str, build: Path = BUILD, version: str = DEFAULT_VERSION, profile: str | None = None
) -> ArchiveContents:
    """The contents of one of our own models, its artifact and libraries taken from `build`.

    Raises:
        OpserveError: no such model or profile, a wrong configuration, or something is not built.
    """
    if name not in known_models():
        raise ArchiveError(f"there is no model '{name}'; there are: {', '.join(known_models())}")
    _check_version(version)
    folder = MODELS / name
    document, config = _with_cuda_libraries(*_read_config(folder / CONFIG_FILE, profile), folder / CONFIG_FILE)
    built = build / "models" / name
    return ArchiveContents(
        name=name,
        document=document,
        config=config,
        artifact=_existing(built / config.artifact, f"make archive MODEL={name}"),
        op_libraries=tuple(_library(build / "lib" / library) for library in config.op_libraries),
        hooks=_existing(folder / config.hooks, "add it, or take 'hooks' out") if config.hooks else None,
        sample=_existing(built / "sample", f"make archive MODEL={name}"),
        version=version,
    )


def contents_of_files(
    name: str,
    artifact: Path,
    op_libraries: Sequence[Path],
    config_path: Path,
    sample: Path | None,
    version: str = DEFAULT_VERSION,
    profile: str | None = None,
) -> ArchiveContents:
    """The contents of an archive made from someone else's files.

    `artifact` and `op_libraries` may be left out of the configuration; they are then filled in from the arguments.
    Hooks that the configuration names lie beside it.

    Raises:
        OpserveError: a file is absent, the name is not allowed, or the configuration contradicts the arguments.
    """
    if not _NAME.fullmatch(name):
        raise ArchiveError(f"NAME '{name}' is not allowed: letters, digits, '_', '-' and '.', a letter or digit first")
    _check_version(version)
    _existing(artifact, "check ARTIFACT")
    for library in op_libraries:
        _existing(library, "check OPS")
    document = _with_file_names(_read_document(config_path, profile), artifact, op_libraries, config_path)
    config = _checked(document, config_path)
    return ArchiveContents(
        name=name,
        document=document,
        config=config,
        artifact=artifact,
        op_libraries=tuple(op_libraries),
        hooks=_existing(config_path.parent / config.hooks, "add it, or take 'hooks' out") if config.hooks else None,
        sample=_existing(sample, "check SAMPLE") if sample else None,
        version=version,
    )


def _with_file_names(document: dict, artifact: Path, op_libraries: Sequence[Path], source: Path) -> dict:
    section = document.get("opserve")
    if not isinstance(section, dict):
        raise ArchiveError(f"{source}: the section 'opserve:' is missing")
    given = {"artifact": artifact.name, "op_libraries": [library.name for library in op_libraries]}
    for key, value in given.items():
        if section.get(key, value) != value:
            raise ArchiveError(f"{source}: opserve.{key} is {section[key]!r}, but {value!r} was given; make them agree")
    return document | {"opserve": section | given}


def _with_cuda_libraries(document: dict, config: ModelConfig, path: Path) -> tuple[dict, ModelConfig]:
    """With the CUDA libraries of our own operators as well, where `device: cuda` says that nothing else will do."""
    if config.device != "cuda":
        return document, config
    names = list(config.op_libraries)
    ours = [name for name in names if name.startswith("libopserve_") and not name.endswith("_cuda.so")]
    names += [name for name in map(cuda_library, ours) if name not in names]
    document = document | {"opserve": document["opserve"] | {"op_libraries": names}}
    return document, _checked(document, path)


def _library(path: Path) -> Path:
    return _existing(path, "make ext CUDA=on" if path.name.endswith("_cuda.so") else "make ext")


def _read_config(path: Path, profile: str | None) -> tuple[dict, ModelConfig]:
    document = _read_document(path, profile)
    return document, _checked(document, path)


def _read_document(path: Path, profile: str | None) -> dict:
    return choose_profile(read_yaml(path), profile, str(path))


def _checked(document: dict, path: Path) -> ModelConfig:
    config = ModelConfig.parse(document, str(path))
    if Path(config.artifact).suffix not in (".pt", ".pt2", ".onnx"):
        raise ArchiveError(f"{path}: the artifact {config.artifact} must be a .pt, .pt2 or .onnx file")
    return config


def _check_version(version: str) -> None:
    if not _VERSION.fullmatch(version):
        raise ArchiveError(f"VERSION '{version}' is not allowed: letters, digits, '-' and '.', a letter or digit first")


def _existing(path: Path, fix: str) -> Path:
    if not path.exists():
        raise ArchiveError(f"{path} does not exist; {fix}")
    return path


def synthetic_body(specs: Sequence[TensorSpec]) -> bytes:
    """A JSON body that fits a signature: sizes left open are 2, floats are drawn from 0 to 1, the rest is zero."""
    generator = numpy.random.default_rng(0)

    def values(spec: TensorSpec) -> list:
        shape = [2 if size < 0 else size for size in spec.shape]
        if spec.dtype.kind == "f":
            return generator.random(shape).round(3).tolist()
        return numpy.zeros(shape, spec.dtype).tolist()

    return json.dumps({spec.name: values(spec) for spec in specs}).encode()
