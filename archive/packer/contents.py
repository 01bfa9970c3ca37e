"""What an archive is made of: a model of `archive/`, or your own files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from archive.errors import ArchiveError
from archive.packer.names import is_name
from archive.packer.profiles import DEFAULT_PROFILES, choose_profile
from archive.repository import ROOT, find_models
from handlers.config import CONFIG_FILE, ModelConfig, read_yaml
from handlers.engines.op_library import cuda_library
from handlers.signature import TensorSpec

DEFAULT_VERSION = "1.0"
# It is also the name of a folder and a part of a URL.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclass(frozen=True)
class ArchiveContents:
    """Everything that goes into one archive, checked to exist.

    Attributes:
        name: the model's name.
        document: `model-config.yaml`, parsed and complete, with the settings of the chosen profile.
        config: its `opserve:` section.
        artifact: the model file.
        op_libraries: the shared libraries that `config` names, in its order.
        hooks: the file with `preprocess`/`postprocess`, or `None`.
        sample: a folder with `request/` and `answer.json`; or a JSON file with only a request's body; or `None`.
        version: the model's version.
    """

    name: str
    document: dict[str, Any]
    config: ModelConfig
    artifact: Path
    op_libraries: tuple[Path, ...]
    hooks: Path | None
    sample: Path | None
    version: str = DEFAULT_VERSION

    @classmethod
    def from_model(
        cls, name: str, *, root: Path = ROOT, version: str = DEFAULT_VERSION, profile: str | None = None
    ) -> ArchiveContents:
        """Gathers the files of a model of `archive/`; its artifact and libraries are in `build/`.

        Raises:
            OpserveError: there is no such model or profile, its configuration is wrong, or something is not built.
        """
        models = find_models(root)
        if name not in models:
            raise ArchiveError(f"there is no model '{name}'; there are: {', '.join(models)}")
        _check_version(version)
        path, built = models[name], root / "build" / "models" / name
        document = choose_profile(_read_with_base(path), profile, str(path), DEFAULT_PROFILES)
        document = _with_cuda_libraries(document, _parse(document, path))
        config = _parse(document, path)
        return cls(
            name=name,
            document=document,
            config=config,
            artifact=_existing(built / config.artifact, f"make archive MODEL={name}"),
            op_libraries=tuple(_library(root / "build" / "lib" / library) for library in config.op_libraries),
            hooks=_built_hooks(path, built, config),
            sample=_existing(built / "sample", f"make archive MODEL={name}"),
            version=version,
        )

    @classmethod
    def from_files(
        cls,
        name: str,
        artifact: Path,
        op_libraries: Sequence[Path],
        config_path: Path,
        sample: Path | None = None,
        *,
        version: str = DEFAULT_VERSION,
        profile: str | None = None,
    ) -> ArchiveContents:
        """Gathers your own files.

        `artifact` and `op_libraries` may be left out of the configuration; they are then filled in from the arguments.
        Hooks that the configuration names are next to it.

        Raises:
            OpserveError: a file is missing, the name is not allowed, or the configuration contradicts the arguments.
        """
        if not is_name(name):
            raise ArchiveError(
                f"NAME '{name}' is not allowed: letters, digits, '_', '-' and '.', a letter or digit first"
            )
        _check_version(version)
        _existing(artifact, "check ARTIFACT")
        for library in op_libraries:
            _existing(library, "check OPS")
        document = choose_profile(read_yaml(config_path), profile, str(config_path))
        document = _with_file_names(document, artifact, op_libraries, config_path)
        config = _parse(document, config_path)
        return cls(
            name=name,
            document=document,
            config=config,
            artifact=artifact,
            op_libraries=tuple(op_libraries),
            hooks=_hooks(config_path, config),
            sample=_existing(sample, "check SAMPLE") if sample else None,
            version=version,
        )

    @property
    def file_name(self) -> str:
        """`digits.mar`, or `digits@2.0.mar` for another version, so that both fit in one folder; no name has an `@`."""
        return f"{self.name}.mar" if self.version == DEFAULT_VERSION else f"{self.name}@{self.version}.mar"


def _read_with_base(path: Path) -> dict[str, Any]:
    """A model's configuration; that of a variant says only what differs from `model-config.yaml` next to it."""
    document = read_yaml(path)
    if path.name == CONFIG_FILE:
        return document
    base = read_yaml(path.with_name(CONFIG_FILE))
    return base | document | {"opserve": base.get("opserve", {}) | document.get("opserve", {})}


def _with_file_names(
    document: dict[str, Any], artifact: Path, op_libraries: Sequence[Path], source: Path
) -> dict[str, Any]:
    section = document.get("opserve")
    if not isinstance(section, dict):
        raise ArchiveError(f"{source}: the section 'opserve:' is missing")
    given = {"artifact": artifact.name, "op_libraries": [library.name for library in op_libraries]}
    for key, value in given.items():
        if section.get(key, value) != value:
            raise ArchiveError(f"{source}: opserve.{key} is {section[key]!r}, but {value!r} was given; make them agree")
    return document | {"opserve": section | given}


def _with_cuda_libraries(document: dict[str, Any], config: ModelConfig) -> dict[str, Any]:
    """Adds the CUDA libraries of opserve's operators where `device: cuda` rules out the CPU."""
    if config.device != "cuda":
        return document
    names = list(config.op_libraries)
    ours = [name for name in names if name.startswith("libopserve_") and not name.endswith("_cuda.so")]
    names += [name for name in map(cuda_library, ours) if name not in names]
    return document | {"opserve": document["opserve"] | {"op_libraries": names}}


def _parse(document: dict[str, Any], path: Path) -> ModelConfig:
    config = ModelConfig.parse(document, str(path))
    if Path(config.artifact).suffix not in (".pt", ".pt2", ".onnx"):
        raise ArchiveError(f"{path}: the artifact {config.artifact} must be a .pt, .pt2 or .onnx file")
    return config


def _check_version(version: str) -> None:
    if not _VERSION.fullmatch(version):
        raise ArchiveError(f"VERSION '{version}' is not allowed: letters, digits, '-' and '.', a letter or digit first")


def _hooks(config_path: Path, config: ModelConfig) -> Path | None:
    return _existing(config_path.with_name(config.hooks), "add it, or remove 'hooks'") if config.hooks else None


def _built_hooks(config_path: Path, built: Path, config: ModelConfig) -> Path | None:
    """Hooks in Python are next to the configuration; those in TorchScript are built with the artifact."""
    if config.hooks and config.hooks.endswith(".pt"):
        return _existing(built / config.hooks, f"make archive MODEL={built.name}")
    return _hooks(config_path, config)


def _library(path: Path) -> Path:
    return _existing(path, "make ext CUDA=on" if path.name.endswith("_cuda.so") else "make ext")


def _existing(path: Path, fix: str) -> Path:
    if not path.exists():
        raise ArchiveError(f"{path} does not exist; {fix}")
    return path


def make_request_body(specs: Sequence[TensorSpec]) -> bytes:
    """A JSON body that fits a signature: open sizes are 2, floats are drawn from 0 to 1, everything else is zero."""
    generator = numpy.random.default_rng(0)

    def values(spec: TensorSpec) -> Any:
        shape = [2 if size < 0 else size for size in spec.shape]
        if spec.dtype.kind == "f":
            return generator.random(shape).round(3).tolist()
        return numpy.zeros(shape, spec.dtype).tolist()

    return json.dumps({spec.name: values(spec) for spec in specs}).encode()
