"""Reads and checks `model-config.yaml`: TorchServe's keys at the top, opserve's under `opserve:`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import yaml

from handlers.codecs.json_arrays import MAX_BYTES as MAX_JSON_BYTES
from handlers.codecs.json_output import MAX_RESPONSE_BYTES
from handlers.codecs.npy import MAX_UNPACKED_BYTES
from handlers.codecs.shared_memory import is_key
from handlers.errors import ModelError
from handlers.sample import TOLERANCE
from handlers.signature import NAME_RULE, TensorSpec, is_tensor_name
from handlers.yaml_text import load_yaml

CONFIG_FILE = "model-config.yaml"

# What TorchServe 0.12 reads from the file (org.pytorch.serve.archive.model.ModelConfig). It ignores a key it does not
# know, so a misspelt one would silently change nothing.
TORCHSERVE_KEYS = frozenset(
    """minWorkers maxWorkers batchSize maxBatchDelay responseTimeout startupTimeout deviceType deviceIds
    parallelLevel parallelType torchrun maxRetryTimeoutInSec clientTimeoutInMills jobQueueSize useJobTicket
    sequenceMaxIdleMSec sequenceTimeoutMSec maxSequenceJobQueueSize maxNumSequence continuousBatching
    asyncCommunication useVenv sequenceBatching handler""".split()
)

# Says what `threads: auto` is; scripts/start.py sets it to what the machine's cores allow.
THREADS_VARIABLE = "OPSERVE_THREADS"

DEVICES = ("auto", "cpu", "cuda")
BATCHINGS = ("none", "stack", "graph")
GRAPH_OPTIMIZATIONS = ("none", "basic", "extended", "all")
# Keys that only one format knows; elsewhere they would silently change nothing.
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
        artifact: file name of the model beside the configuration; its suffix is its format: `.pt` TorchScript, `.pt2`
            exported program or AOTInductor package, `.onnx`.
        op_libraries: file names of the shared libraries to load before the artifact, in this order.
        device: `auto` (the worker's GPU if it has one), `cpu`, or `cuda` (refuses to run without a GPU).
        threads: intra-op threads of one worker; `auto` is what OPSERVE_THREADS says, or 1.
        profile: name of the profile that the archive was packed with, or `None`. No setting: it is told to who asks.
        batching: `none`: the model is called once per request with the tensors as the signature gives them;
            `stack`: requests of equal shapes are joined along a new first dimension; `graph`: graphs in CSR form
            (inputs `rowptr`, `col` and optionally `value`) are joined block-diagonally.
        inputs: what a request holds, in the order of the model's arguments.
        outputs: what the model returns, in its order. Shapes are those of one request.
        hooks: file name of a module with `preprocess(inputs)` and/or `postprocess(outputs)`, or `None`.
        max_image_pixels: images with more pixels than this, all those of a request together, are refused before they
            are decoded.
        max_npz_bytes: the largest request: inputs that take more bytes than this in their dtypes, all together, are
            refused before they are made, and so is an .npz or a compressed body before it is unpacked to more, and what
            is in shared memory before it is read.
        max_json_bytes: a JSON text of more bytes than this is refused, once it is unpacked and before it is parsed.
        shared_memory: what the keys begin with of the shared memory that requests may name, or `None`: none.
        warm_up: whether a worker answers the archive's sample before it reports itself ready.
        freeze: TorchScript only: `torch.jit.freeze` after loading.
        optimize_for_inference: TorchScript only: `torch.jit.optimize_for_inference` after loading.
        graph_optimization: ONNX only: `none`, `basic`, `extended` or `all`.
        provider_options: ONNX only: options of the CUDA execution provider.
        tolerance: how far, absolute or relative, the answer to the archive's sample may be from the expected one.
        max_response_bytes: a larger answer is refused instead of sent, and so are the largest answers of a batch that
            has more; TorchServe's max_response_size, which ends a worker that sends more, must not be smaller.
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
    max_image_pixels: int = 50_000_000
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
            ModelError: the file is absent, not YAML, or says something that is not allowed.
        """
        return cls.parse(read_yaml(path), str(path))

    @classmethod
    def parse(cls, document: dict[str, Any], source: str = CONFIG_FILE) -> ModelConfig:
        """Checks a parsed `model-config.yaml`; `source` is the name used in messages."""
        _refuse_unknown_keys(document, TORCHSERVE_KEYS | {"opserve"}, source)
        _check_torchserve_keys(document, source)
        section = document.get("opserve")
        if not isinstance(section, dict):
            raise ModelError(f"{source}: the section 'opserve:' is missing")
        _refuse_unknown_keys(section, cls.__dataclass_fields__.keys(), f"{source}: opserve")
        reader = _Section(section, f"{source}: opserve")
        config = cls(
            artifact=reader.file_name("artifact", required=True),
            inputs=reader.specs("inputs"),
            outputs=reader.specs("outputs"),
            op_libraries=reader.file_names("op_libraries"),
            device=reader.choice("device", DEVICES, "auto"),
            threads=reader.threads("threads"),
            profile=reader.identifier("profile"),
            batching=reader.choice("batching", BATCHINGS, "none"),
            hooks=reader.file_name("hooks"),
            max_image_pixels=reader.positive("max_image_pixels", cls.max_image_pixels),
            max_npz_bytes=reader.positive("max_npz_bytes", cls.max_npz_bytes),
            max_json_bytes=reader.positive("max_json_bytes", cls.max_json_bytes),
            shared_memory=reader.key_prefix("shared_memory"),
            warm_up=reader.boolean("warm_up", cls.warm_up),
            freeze=reader.boolean("freeze", cls.freeze),
            optimize_for_inference=reader.boolean("optimize_for_inference", cls.optimize_for_inference),
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


def _check_torchserve_keys(document: dict, source: str) -> None:
    if ("minWorkers" in document) != ("maxWorkers" in document):
        raise ModelError(f"{source}: minWorkers and maxWorkers go together: TorchServe ignores one without the other")


def _check_format_keys(section: dict, artifact: str, source: str) -> None:
    for key, suffix in FORMAT_KEYS.items():
        if key in section and not artifact.endswith(suffix):
            raise ModelError(f"{source}: opserve.{key} is for {suffix} files and would change nothing for {artifact}")


def _check_graph(config: ModelConfig, source: str) -> None:
    """A graph has its row pointers and columns; only its edge values may be left out of a request."""
    by_name = {spec.name: spec for spec in config.inputs}
    if config.batching == "graph":
        for name in ("rowptr", "col"):
            if name not in by_name or by_name[name].dtype.kind != "i" or len(by_name[name].shape) != 1:
                raise ModelError(f"{source}: batching: graph needs an input '{name}', a vector of int32 or int64")
        scalars = [spec.name for spec in (*config.inputs, *config.outputs) if not spec.shape]
        if scalars:
            raise ModelError(f"{source}: batching: graph joins along the first dimension, and '{scalars[0]}' has none")
    optional = [spec.name for spec in config.inputs if spec.optional]
    if optional and (config.batching != "graph" or optional != ["value"]):
        raise ModelError(f"{source}: only the input 'value' with batching: graph may be optional, not '{optional[0]}'")


class _Section:
    """Typed look-ups in one mapping, with messages that name the key."""

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

    def boolean(self, key: str, default: bool) -> bool:
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
        said = os.environ.get(THREADS_VARIABLE, "1")
        if not (said.isascii() and said.isdigit() and int(said) > 0):
            raise ModelError(f"{THREADS_VARIABLE}: expected a number of threads, got {said!r}")
        return int(said)

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
        if value is not None and not (isinstance(value, str) and is_key(value)):
            raise self.fail(key, "what names begin with: letters, digits, '_', '-' or '.', the last not at the start")
        return value

    def file_name(self, key: str, required: bool = False) -> str | None:
        value = self.values.get(key)
        if value is None and not required:
            return None
        if not _is_plain_file_name(value):
            raise self.fail(key, "the name of a file beside the configuration")
        return value

    def file_names(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key) or []
        if not isinstance(value, list) or not all(map(_is_plain_file_name, value)) or len(set(value)) < len(value):
            raise self.fail(key, "a list of different file names, each beside the configuration")
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


def _is_plain_file_name(value: Any) -> bool:
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
