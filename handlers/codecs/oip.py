"""The Open Inference Protocol (v2): tensors as JSON, its binary data extension and shared memory.

A request is `{"inputs": [{"name", "shape", "datatype", "data"}], "outputs"?, "id"?, "parameters"?}`. With the extension
the JSON is only the start of the body, as long as the header `Inference-Header-Content-Length` says; the bytes of the
tensors with a `binary_data_size` among their parameters follow it in their order, little-endian. Tensors with a
`shared_memory_region` are in memory that both sides share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy
import orjson

from handlers.codecs import shared_memory
from handlers.codecs.budget import over_bound
from handlers.codecs.datatypes import DATATYPE_NAMES, DATATYPES
from handlers.codecs.json_output import ResponseTooLarge, preserialize
from handlers.codecs.npy import is_shape, reshape, view_as_array
from handlers.codecs.request import Buffer
from handlers.codecs.shared_memory import NO_SHARED_MEMORY, Region, SharedMemory
from handlers.errors import RequestError
from handlers.signature import TensorSpec

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"

# Bytes of an id or a name.
MAX_TEXT = 1024
MAX_OUTPUTS = 1024


@dataclass(frozen=True)
class InferRequest:
    """What a request in this protocol asks of its response.

    Attributes:
        id: repeated in the response; `None` if absent.
        outputs: the outputs wanted, in this order, and whether each is wanted as binary data; `None`: all of them.
        binary: whether outputs that `outputs` does not list are wanted as binary data.
        regions: the outputs that are wanted in shared memory, and where.
    """

    id: str | None = None
    outputs: tuple[tuple[str, bool], ...] | None = None
    binary: bool = False
    regions: Mapping[str, Region] = field(default_factory=dict)

    @property
    def wants_binary(self) -> bool:
        """Whether any output is wanted as binary data."""
        return self.binary if self.outputs is None else any(binary for _, binary in self.outputs)


def is_infer_request(document: Any, names: set[str]) -> bool:
    """Whether a JSON document is a request in this protocol, for a model whose inputs have these names."""
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        return False
    # An empty list is the tensor of a model that has an input of this name.
    items = document["inputs"]
    return "inputs" not in names or (len(items) > 0 and all(isinstance(item, dict) for item in items))


def split_body(content: Buffer, length: str) -> tuple[Buffer, memoryview]:
    """The JSON and the binary data of a body, given the value of its `Inference-Header-Content-Length`.

    Raises:
        RequestError: the header is not a number of bytes that the body has.
    """
    # Not int() alone: it reads "+5", "5_0" and the digits of every script.
    if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(content)):
        raise RequestError(f"{JSON_LENGTH_HEADER} is '{length}'; the body has {len(content)} bytes")
    size = int(length)
    view = memoryview(content)
    return view[:size], view[size:]


def read_infer_request(document: dict[str, Any], memory: SharedMemory = NO_SHARED_MEMORY) -> InferRequest:
    """What the request asks of its response.

    Raises:
        RequestError: `id`, `outputs` or a parameter is of the wrong type or too long.
    """
    identifier, outputs = document.get("id"), document.get("outputs")
    if identifier is not None and not (isinstance(identifier, str) and _fits(identifier)):
        raise RequestError(f"'id' must be a string of at most {MAX_TEXT} bytes", field="id")
    binary = _flag(_parameters(document, "the request"), "binary_data_output", default=False)
    if outputs is not None and not isinstance(outputs, list):
        raise RequestError("'outputs' must be a list of {name}", field="outputs")
    if not outputs:
        return InferRequest(identifier, None, binary)
    if len(outputs) > MAX_OUTPUTS:
        raise RequestError(
            f"'outputs' names {len(outputs)} outputs; at most {MAX_OUTPUTS} are accepted", field="outputs"
        )
    wanted: dict[str, bool] = {}
    regions: dict[str, Region] = {}
    for item in outputs:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or not _fits(name) or name in wanted:
            raise RequestError("'outputs' must be a list of {name}, each once", field="outputs")
        parameters = _parameters(item, f"'{name}'")
        region = memory.find_region(parameters, name)
        if region is not None:
            regions[name] = region
        wanted[name] = region is None and _flag(parameters, "binary_data", default=binary)
    return InferRequest(identifier, tuple(wanted.items()), binary, regions)


def input_names(document: dict[str, Any]) -> list[str]:
    """The names of a request's inputs, in its order; to be compared with the model's before their data are read.

    Raises:
        RequestError: one has no name, or one that is too long.
    """
    names: list[Any] = [item.get("name") if isinstance(item, dict) else None for item in document["inputs"]]
    if not all(isinstance(name, str) and _fits(name) for name in names):
        raise RequestError("'inputs' must be a list of {name, shape, datatype, data}", field="inputs")
    return names


def read_tensors(
    document: dict[str, Any], binary: memoryview, memory: SharedMemory = NO_SHARED_MEMORY
) -> dict[str, numpy.ndarray]:
    """The request's inputs by name, all of which `input_names` has checked.

    The `data` of a JSON tensor is a list, flat or nested, or an array already made of one. Tensors in `binary` are
    views of it if NumPy has their datatype; those in shared memory are copied.

    Raises:
        RequestError: naming the tensor whose description, shape or data is wrong.
    """
    tensors: dict[str, numpy.ndarray] = {}
    shared = 0
    for item in document["inputs"]:
        name = item["name"]
        if name in tensors:
            raise RequestError(f"'{name}' occurs twice among the inputs", field=name)
        datatype, shape = item.get("datatype"), item.get("shape")
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            given = repr(datatype[:80]) if isinstance(datatype, str) else "that is not a string"
            raise RequestError(f"'{name}' has a datatype {given}; known are {', '.join(DATATYPES)}", field=name)
        if not isinstance(shape, list) or not is_shape(shape):
            raise RequestError(f"'{name}' has no shape; it must be a list of sizes", field=name)
        parameters = _parameters(item, f"'{name}'")
        size, region = parameters.get("binary_data_size"), memory.find_region(parameters, name)
        if region is not None:
            if "data" in item or size is not None:
                raise RequestError(f"'{name}' must have either data or a place in shared memory", field=name)
            shared += region.size * (2 if datatype == "BF16" else 1)  # it is widened before it is counted again
            if shared > memory.max_bytes:
                raise over_bound(f"the inputs in shared memory have {shared} bytes", memory.max_bytes, name)
            tensors[name] = _from_memory(region, name, datatype, shape)
            continue
        if size is None:
            tensors[name] = _from_json(item.get("data"), name, datatype, shape)
            continue
        if "data" in item or type(size) is not int or not 0 <= size <= len(binary):
            raise RequestError(
                f"'{name}' must have either data, or a binary_data_size within the {len(binary)} bytes that are left",
                field=name,
            )
        tensors[name] = _from_bytes(binary[:size], name, datatype, shape)
        binary = binary[size:]
    if len(binary):
        raise RequestError(f"{len(binary)} bytes of binary data belong to no input")
    return tensors


def _fits(text: str) -> bool:
    """Whether an id or a name is short enough."""
    return len(text) <= MAX_TEXT and (text.isascii() or len(text.encode(errors="replace")) <= MAX_TEXT)


def _from_json(data: Any, name: str, datatype: str, shape: list[int]) -> numpy.ndarray:
    if not isinstance(data, list | numpy.ndarray):
        raise RequestError(f"'{name}' has no data; it must be a list, flat or nested", field=name)
    nested = data.ndim > 1 if isinstance(data, numpy.ndarray) else bool(data) and isinstance(data[0], list)
    wanted = tuple(shape) if nested else (math.prod(shape),)
    if not nested and len(data) != wanted[0]:
        raise RequestError(f"'{name}' has {len(data)} values for the shape {shape}", field=name)
    return reshape(TensorSpec(name, DATATYPES[datatype], wanted).convert(data), tuple(shape), name)


def _from_bytes(data: memoryview, name: str, datatype: str, shape: list[int]) -> numpy.ndarray:
    if datatype != "BF16":
        return view_as_array(data, DATATYPES[datatype], tuple(shape), name)
    halves = view_as_array(data, numpy.dtype("<u2"), tuple(shape), name)
    wide = numpy.left_shift(halves.ravel(), 16, dtype=numpy.uint32).view(numpy.float32)
    return reshape(wide, tuple(shape), name)


def _from_memory(region: Region, name: str, datatype: str, shape: list[int]) -> numpy.ndarray:
    needed = math.prod(shape) * (2 if datatype == "BF16" else DATATYPES[datatype].itemsize)
    if needed != region.size:  # before anything is copied
        raise RequestError(
            f"'{name}' is {datatype} {shape}, which takes {needed} bytes, but its {shared_memory.SIZE} is "
            f"{region.size}",
            field=name,
        )
    return _from_bytes(shared_memory.read(region, name), name, datatype, shape)


def _parameters(item: dict[str, Any], owner: str) -> dict[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f"the parameters of {owner} must be an object", field="parameters")
    return parameters


def _flag(parameters: dict[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        raise RequestError(f"the parameter {key} must be true or false", field="parameters")
    return value


def write_infer_response(
    arrays: Mapping[str, numpy.ndarray], request: InferRequest, model_name: str, model_version: str, max_bytes: int
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if binary data follow.

    NaN and infinity become null in JSON; binary data hold them as they are. Outputs that are wanted in shared memory
    are written there.

    Raises:
        RequestError: an output is wanted that the model does not have, or in shared memory that cannot take it.
        ResponseTooLarge: the body has more than `max_bytes`.
    """
    wanted = request.outputs if request.outputs is not None else tuple((name, request.binary) for name in arrays)
    outputs: list[dict[str, Any]] = []
    tail: list[Any] = []  # of arrays, which typeshed does not take for buffers
    flat: dict[str, Any] = {}
    for name, binary in wanted:
        if name not in arrays:
            raise RequestError(f"'{name}' is not an output of this model; it has {', '.join(arrays)}", field=name)
        array = arrays[name]
        output: dict[str, Any] = {"name": name, "datatype": DATATYPE_NAMES[array.dtype], "shape": array.shape}
        if name in request.regions:
            output["parameters"] = shared_memory.write(request.regions[name], array, name).describe()
        elif binary:
            output["parameters"] = {"binary_data_size": array.nbytes}
            tail.append(array)
        else:
            output["data"] = flat[name] = array.ravel()
        outputs.append(output)
    left = max_bytes - sum(array.nbytes for array in tail) if tail else max_bytes
    if left < 0:
        raise ResponseTooLarge
    if flat and (texts := preserialize(flat, left)) is not flat:
        for output in outputs:
            if "data" in output:
                output["data"] = texts[output["name"]]
    document: dict[str, Any] = {"model_name": model_name}
    if model_version:
        document["model_version"] = model_version
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = outputs
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([head, *tail]), (len(head) if tail else None)
