"""Reads and checks `model-config.yaml`: TorchServe's keys at the top, opserve's under `opserve:`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

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

DEVICES = ("auto", "cpu", "cuda")
BATCHINGS = ("none", "stack", "graph")
GRAPH_OPTIMIZATIONS = ("none", "basic", "extended", "all")
# Keys that apply to one format only; for others they would silently change nothing.
FORMAT_KEYS = {
    "freeze": ".pt",
    "optimize_for_inference": ".pt",
    "graph_optimization": ".onnx",
    "provider_options": ".onnx",
}


@dataclass(frozen=True)
class ModelConfig:
    """The `opserve:` section.

    Attributes:
        artifact: file name of the model, next to the configuration; its suffix is its format: `.pt` TorchScript, `.pt2`
            exported program or AOTInductor package, `.onnx`.
        op_libraries: file names of the shared libraries to load before the artifact, in this order.
        device: `auto` (the worker's GPU if it has one), `cpu`, or `cuda` (refuses to run without a GPU).
        threads: intra-op threads of one worker; `auto` is the value of OPSERVE_THREADS, or 1.
        profile: name of the profile that the archive was packed with, or `None`; changes nothing, but is reported.
        batching: `none`: the model is called once per request with the tensors as the signature gives them;
            `stack`: requests of equal shapes are joined along a new first dimension; `graph`: graphs in CSR form
            (inputs `rowptr`, `col` and optionally `value`) are joined block-diagonally.
        inputs: the tensors of a request, in the order of the model's arguments.
        outputs: the tensors that the model returns, in its order. Shapes are those of one request.
        hooks: file name of a module with `preprocess`, `postprocess` or `explain` (see handlers/hooks.py), or `None`.
        max_image_pixels: the most pixels of all images of a request together; more are refused before decoding.
        max_npz_bytes: the most bytes of all inputs of a request together, in their dtypes. More are refused before
            arrays are made, before an .npz or a compressed body is unpacked, and before shared memory is read.
        max_json_bytes: the most bytes of a JSON text, unpacked; more are refused before parsing.
        shared_memory: the prefix of the shared memory regions that requests may name, or `None`: none.
        warm_up: whether a worker answers the archive's sample before it reports that it is ready.
        freeze: TorchScript only: `torch.jit.freeze` after loading.
        optimize_for_inference: TorchScript only: `torch.jit.optimize_for_inference` after loading.
        graph_optimization: ONNX only: `none`, `basic`, `extended` or `all`.
        provider_options: ONNX only: options of the CUDA execution provider.
        tolerance: the largest absolute or relative difference between the response to the archive's sample and the
            expected one.
        max_response_bytes: the most bytes of a response, and of all responses of a batch; larger ones are replaced by
            an error. TorchServe's max_response_size, beyond which it ends a worker, must not be smaller.
    """

    artifact: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    op_libraries: tuple[str, ...] = ()
    device: str = "auto"
    threads: int = 1
    profile: str | None = None
    batching: str = "none"
    hooks: str | None = None
    max_image_pixels: int = MAX_IMAGE_PIXELS
    max_npz_bytes: int = MAX_UNPACKED_BYTES
    max_json_bytes: int = MAX_JSON_BYTES
    shared_memory: str | None = None
    warm_up: bool = True
    freeze: bool = False
    optimize_for_inference: bool = False
    graph_optimization: str = "all"
    provider_options: Mapping[str, str | int] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    max_response_bytes: int = MAX_RESPONSE_BYTES

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
        _refuse_unknown_keys(section, cls.__dataclass_fields__.keys(), f"{source}: opserve")
        reader = _Section(section, f"{source}: opserve")
        config = cls(
            artifact=reader.file_name("artifact"),
            inputs=reader.specs("inputs"),
            outputs=reader.specs("outputs"),
            op_libraries=reader.file_names("op_libraries"),
            device=reader.choice("device", DEVICES, cls.device),
            threads=reader.threads("threads"),
            profile=reader.identifier("profile"),
            batching=reader.choice("batching", BATCHINGS, cls.batching),
            hooks=reader.file_name("hooks") if section.get("hooks") is not None else None,
            max_image_pixels=reader.positive("max_image_pixels", cls.max_image_pixels),
            max_npz_bytes=reader.positive("max_npz_bytes", cls.max_npz_bytes),
            max_json_bytes=reader.positive("max_json_bytes", cls.max_json_bytes),
            shared_memory=reader.key_prefix("shared_memory"),
            warm_up=reader.boolean("warm_up", default=cls.warm_up),
            freeze=reader.boolean("freeze", default=cls.freeze),
            optimize_for_inference=reader.boolean("optimize_for_inference", default=cls.optimize_for_inference),
            graph_optimization=reader.choice("graph_optimization", GRAPH_OPTIMIZATIONS, cls.graph_optimization),
            provider_options=reader.options("provider_options"),
            tolerance=reader.fraction("tolerance", cls.tolerance),
            max_response_bytes=reader.positive("max_response_bytes", cls.max_response_bytes),
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


class _Section:
    """Typed look-ups in one mapping; errors name the key."""

    def __init__(self, values: dict[str, Any], where: str):
        self.values = values
        self.where = where

    def fail(self, key: str, expected: str) -> ModelError:
        return ModelError(f"{self.where}.{key}: expected {expected}, got {self.values.get(key)!r}")

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.values.get(key, default)
        if value not in allowed:
            raise self.fail(key, "one of " + ", ".join(allowed))
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def options(self, key: str) -> dict[str, str | int]:
        value = self.values.get(key) or {}
        if not isinstance(value, dict) or not all(isinstance(item, str | int) for item in value.values()):
            raise self.fail(key, "a mapping of names to texts or whole numbers")
        return {str(name): item for name, item in value.items()}

    def positive(self, key: str, default: int) -> int:
        value = self.values.get(key, default)
        if type(value) is not int or value < 1:
            raise self.fail(key, "a whole number of 1 or more")
        return value

    def threads(self, key: str) -> int:
        value = self.values.get(key, 1)
        if value != "auto":
            if type(value) is not int or value < 1:
                raise self.fail(key, "a whole number of 1 or more, or auto")
            return value
        text = os.environ.get(THREADS_VARIABLE, "1")
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ModelError(f"{THREADS_VARIABLE}: expected a number of threads, got {text!r}")
        return int(text)

    def identifier(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not (isinstance(value, str) and value.isidentifier()):
            raise self.fail(key, "a name of letters, digits and '_'")
        return value

    def fraction(self, key: str, default: float) -> float:
        value = self.values.get(key, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise self.fail(key, "a number from 0 to below 1")
        return float(value)

    def key_prefix(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not (isinstance(value, str) and is_shared_memory_key(value)):
            raise self.fail(key, "a prefix of names: letters, digits, '_', '-' or '.', which must not come first")
        return value

    def file_name(self, key: str) -> str:
        value = self.values.get(key)
        if not _is_plain_file_name(value):
            raise self.fail(key, "the name of a file next to the configuration")
        return value

    def file_names(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(map(_is_plain_file_name, value)) or len(set(value)) < len(value):
            raise self.fail(key, "a list of different file names, each next to the configuration")
        return tuple(value)

    def specs(self, key: str) -> tuple[TensorSpec, ...]:
        value = self.values.get(key)
        if not isinstance(value, list) or not value:
            raise self.fail(key, "a list of {name, dtype, shape}")
        keys = ("name", "dtype", "shape", "optional", *(("minimum",) if key == "inputs" else ()))
        specs = tuple(_tensor_spec(item, keys, f"{self.where}.{key}[{index}]") for index, item in enumerate(value))
        names = [spec.name for spec in specs]
        if len(set(names)) < len(names):
            raise ModelError(f"{self.where}.{key}: two entries have the same name: {', '.join(names)}")
        return specs


def _is_plain_file_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value and "\\" not in value


def _tensor_spec(item: Any, keys: tuple[str, ...], where: str) -> TensorSpec:
    if not isinstance(item, dict):
        raise ModelError(f"{where}: expected {{name, dtype, shape}}, got {item!r}")
    _refuse_unknown_keys(item, keys, where)
    name, dtype, shape, optional = item.get("name"), item.get("dtype"), item.get("shape"), item.get("optional", False)
    if not isinstance(name, str) or not is_tensor_name(name):
        raise ModelError(f"{where}.name: expected {NAME_RULE}, got {name!r}")
    if dtype not in TensorSpec.DTYPES:
        raise ModelError(f"{where}.dtype: expected one of {', '.join(TensorSpec.DTYPES)}, got {dtype!r}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= -1 for size in shape):
        raise ModelError(f"{where}.shape: expected a list of sizes, -1 for any, got {shape!r}")
    if not isinstance(optional, bool):
        raise ModelError(f"{where}.optional: expected true or false, got {optional!r}")
    minimum = item.get("minimum")
    if minimum is not None and not (type(minimum) in (int, float) and math.isfinite(minimum) and dtype != "bool"):
        raise ModelError(f"{where}.minimum: expected a finite number, for an input of numbers, got {minimum!r}")
    return TensorSpec(name, numpy.dtype(dtype), tuple(shape), optional, minimum)
