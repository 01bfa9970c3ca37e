"""Reads and checks `model-config.yaml`: TorchServe's keys at the top, opserve's under `opserve:`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy
import yaml

from handlers.codecs.limits import (
    MAX_IMAGE_PIXELS,
    MAX_JSON_BYTES,
    MAX_RESPONSE_BYTES,
    MAX_UNPACKED_BYTES,
    TOLERANCE,
    is_shared_memory_key,
)
from handlers.codecs.safe_yaml import load_yaml
from handlers.errors import ModelError
from handlers.signature import NAME_RULE, TensorSpec, is_tensor_name
from handlers.torchserve.configuration import MODEL_CONFIG_KEYS, check_model_config

CONFIG_FILE = "model-config.yaml"

# The value of `threads: auto`; set by `make start` to what the machine's cores allow.
THREADS_VARIABLE = "OPSERVE_THREADS"

# Keys that apply to one format only; for others they would silently change nothing.
FORMAT_KEYS = {
    "freeze": ".pt",
    "optimize_for_inference": ".pt",
    "graph_optimization": ".onnx",
    "provider_options": ".onnx",
}


def _checked(
    accepts: Callable[[Any], bool], expected: str, convert: Callable[[Any], Any] = lambda value: value
) -> dict[str, Any]:
    """The metadata of a key: how its value is checked and converted, and what an error says was expected."""

    def read(value: Any, where: str) -> Any:
        if not accepts(value):
            raise ModelError(f"{where}: expected {expected}, got {value!r}")
        return convert(value)

    return {"read": read}


def _choice(*allowed: str) -> dict[str, Any]:
    return _checked(lambda value: value in allowed, "one of " + ", ".join(allowed))


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value and "\\" not in value


def _is_positive(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**63


def _read_threads(value: int | str) -> int:
    if isinstance(value, int):
        return value
    text = os.environ.get(THREADS_VARIABLE, "1")
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ModelError(f"{THREADS_VARIABLE}: expected a number of threads, got {text!r}")
    return int(text)


def _tensors(*keys: str) -> dict[str, Any]:
    def read(value: Any, where: str) -> tuple[TensorSpec, ...]:
        if not isinstance(value, list) or not value:
            raise ModelError(f"{where}: expected a list of {{name, dtype, shape}}, got {value!r}")
        specs = tuple(_tensor_spec(item, keys, f"{where}[{index}]") for index, item in enumerate(value))
        names = [spec.name for spec in specs]
        if len(set(names)) < len(names):
            raise ModelError(f"{where}: two entries have the same name: {', '.join(names)}")
        return specs

    return {"read": read}


_BOOLEAN = _checked(lambda value: isinstance(value, bool), "true or false")
_POSITIVE = _checked(_is_positive, "a whole number of 1 or more")
_THREADS = _checked(
    lambda value: value == "auto" or _is_positive(value), "a whole number of 1 or more, or auto", _read_threads
)
_FRACTION = _checked(lambda value: type(value) in (int, float) and 0 <= value < 1, "a number from 0 to below 1", float)
_FILE = _checked(_is_file_name, "the name of a file next to the configuration")
_OPTIONAL_FILE = _checked(
    lambda value: value is None or _is_file_name(value), "the name of a file next to the configuration"
)
_FILES = _checked(
    lambda value: (
        not value or (isinstance(value, list) and all(map(_is_file_name, value)) and len(set(value)) == len(value))
    ),
    "a list of different file names, each next to the configuration",
    lambda value: tuple(value or ()),
)
_IDENTIFIER = _checked(
    lambda value: value is None or (isinstance(value, str) and value.isidentifier()),
    "a name of letters, digits and '_'",
)
_KEY_PREFIX = _checked(
    lambda value: value is None or (isinstance(value, str) and is_shared_memory_key(value)),
    "a prefix of names: letters, digits, '_', '-' or '.', which must not come first",
)
_OPTIONS = _checked(
    lambda value: (
        not value or (isinstance(value, dict) and all(isinstance(item, str | int) for item in value.values()))
    ),
    "a mapping of names to texts or whole numbers",
    lambda value: {str(name): item for name, item in (value or {}).items()},
)


@dataclass(frozen=True)
class ModelConfig:
    """The `opserve:` section; docs/configuration.md describes each key.

    Attributes:
        threads: intra-op threads of one worker, with `auto` replaced by their number.
        inputs: the tensors of one request, in the order of the model's arguments.
        outputs: the tensors that the model returns for one request, in its order.
        max_npz_bytes: the most bytes of all inputs of a request together, in their dtypes and in every format.
        profile: the profile that the archive was packed with; changes nothing, but is reported.
    """

    artifact: str = field(metadata=_FILE)
    inputs: tuple[TensorSpec, ...] = field(metadata=_tensors("name", "dtype", "shape", "optional", "minimum"))
    outputs: tuple[TensorSpec, ...] = field(metadata=_tensors("name", "dtype", "shape", "optional"))
    op_libraries: tuple[str, ...] = field(default=(), metadata=_FILES)
    device: str = field(default="auto", metadata=_choice("auto", "cpu", "cuda"))
    threads: int = field(default=1, metadata=_THREADS)
    profile: str | None = field(default=None, metadata=_IDENTIFIER)
    batching: str = field(default="none", metadata=_choice("none", "stack", "graph"))
    hooks: str | None = field(default=None, metadata=_OPTIONAL_FILE)
    max_image_pixels: int = field(default=MAX_IMAGE_PIXELS, metadata=_POSITIVE)
    max_npz_bytes: int = field(default=MAX_UNPACKED_BYTES, metadata=_POSITIVE)
    max_json_bytes: int = field(default=MAX_JSON_BYTES, metadata=_POSITIVE)
    shared_memory: str | None = field(default=None, metadata=_KEY_PREFIX)
    warm_up: bool = field(default=True, metadata=_BOOLEAN)
    freeze: bool = field(default=False, metadata=_BOOLEAN)
    optimize_for_inference: bool = field(default=False, metadata=_BOOLEAN)
    graph_optimization: str = field(default="all", metadata=_choice("none", "basic", "extended", "all"))
    provider_options: Mapping[str, str | int] = field(default_factory=dict, metadata=_OPTIONS)
    tolerance: float = field(default=TOLERANCE, metadata=_FRACTION)
    max_response_bytes: int = field(default=MAX_RESPONSE_BYTES, metadata=_POSITIVE)

    @classmethod
    def read(cls, path: Path) -> ModelConfig:
        """Reads and checks a whole `model-config.yaml`.

        Raises:
            ModelError: the file is absent, not YAML, or has a key or value that is not allowed.
        """
        return cls.parse(read_yaml(path), str(path))

    @classmethod
    def parse(cls, document: dict[str, Any], source: str = CONFIG_FILE) -> ModelConfig:
        """Checks a parsed `model-config.yaml`; `source` names it in messages."""
        _refuse_unknown_keys(document, MODEL_CONFIG_KEYS | {"opserve"}, source)
        check_model_config(document, source)
        section = document.get("opserve")
        if not isinstance(section, dict):
            raise ModelError(f"{source}: the section 'opserve:' is missing")
        where = f"{source}: opserve"
        keys = {each.name: each for each in fields(cls)}
        _refuse_unknown_keys(section, keys, where)
        config = cls(
            **{
                name: key.metadata["read"](section.get(name), f"{where}.{name}")
                for name, key in keys.items()
                if name in section or (key.default is MISSING and key.default_factory is MISSING)
            }
        )
        _check_format_keys(section, config.artifact, source)
        _check_graph(config, source)
        return config


def read_yaml(path: Path) -> dict[str, Any]:
    """Parses a YAML mapping.

    Raises:
        ModelError: the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        document = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: expected a mapping of keys to values, got {type(document).__name__}")
    return document


def _refuse_unknown_keys(section: dict, known: Any, where: str) -> None:
    unknown = sorted(str(key) for key in section.keys() - set(known))
    if unknown:
        raise ModelError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _check_format_keys(section: dict, artifact: str, source: str) -> None:
    for key, suffix in FORMAT_KEYS.items():
        if key in section and not artifact.endswith(suffix):
            raise ModelError(f"{source}: opserve.{key} is for {suffix} files and would change nothing for {artifact}")


def _check_graph(config: ModelConfig, source: str) -> None:
    """Checks that a graph has row pointers and columns, and that nothing but its edge values is optional."""
    by_name = {spec.name: spec for spec in config.inputs}
    if config.batching == "graph":
        for name in ("rowptr", "col"):
            if name not in by_name or by_name[name].dtype.kind != "i" or len(by_name[name].shape) != 1:
                raise ModelError(f"{source}: batching: graph needs an input '{name}', a vector of int32 or int64")
        scalars = [spec.name for spec in (*config.inputs, *config.outputs) if not spec.shape]
        if scalars:
            raise ModelError(
                f"{source}: batching: graph joins along the first dimension, which '{scalars[0]}' does not have"
            )
    optional = [spec.name for spec in config.inputs if spec.optional]
    if optional and (config.batching != "graph" or optional != ["value"]):
        raise ModelError(f"{source}: only the input 'value' with batching: graph may be optional, not '{optional[0]}'")


def _tensor_spec(item: Any, keys: tuple[str, ...], where: str) -> TensorSpec:
    if not isinstance(item, dict):
        raise ModelError(f"{where}: expected {{name, dtype, shape}}, got {item!r}")
    _refuse_unknown_keys(item, keys, where)
    name, dtype, shape, optional = item.get("name"), item.get("dtype"), item.get("shape"), item.get("optional", False)
    if not isinstance(name, str) or not is_tensor_name(name):
        raise ModelError(f"{where}.name: expected {NAME_RULE}, got {name!r}")
    if dtype not in TensorSpec.DTYPES:
        raise ModelError(f"{where}.dtype: expected one of {', '.join(TensorSpec.DTYPES)}, got {dtype!r}")
    if not isinstance(shape, list) or not all(type(size) is int and -1 <= size < 2**63 for size in shape):
        raise ModelError(f"{where}.shape: expected a list of sizes, -1 for any, got {shape!r}")
    if not isinstance(optional, bool):
        raise ModelError(f"{where}.optional: expected true or false, got {optional!r}")
    minimum = item.get("minimum")
    if minimum is not None and not (type(minimum) in (int, float) and math.isfinite(minimum) and dtype != "bool"):
        raise ModelError(f"{where}.minimum: expected a finite number, for an input of numbers, got {minimum!r}")
    return TensorSpec(name, numpy.dtype(dtype), tuple(shape), optional, minimum)
