"""Arrays as the bodies of requests, in every format that is measured."""

import contextlib
import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy
import orjson

from handlers.codecs.npy import NPY_TYPE, NPZ_TYPE
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.shared_memory import Region

JSON_TYPE = "application/json"
Arrays = Mapping[str, numpy.ndarray]
# The Open Inference Protocol's names.
DATATYPES = {
    "float16": "FP16",
    "float32": "FP32",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
}
# The beginning of the name of every shared-memory region here, which a served model's configuration must contain.
REGION_PREFIX = "opserve-bench-"


class Payload(NamedTuple):
    """A request's body and headers."""

    body: bytes
    headers: Mapping[str, str]


def plain_json(inputs: Arrays) -> Payload:
    """`{name: nested lists}`."""
    body = orjson.dumps(dict(inputs), option=orjson.OPT_SERIALIZE_NUMPY)
    return Payload(body, {"Content-Type": JSON_TYPE, "Accept": JSON_TYPE})


def oip_json(inputs: Arrays) -> Payload:
    """Tensors of the Open Inference Protocol in JSON, their data flat."""
    tensors = [_describe(name, array) | {"data": array.ravel()} for name, array in inputs.items()]
    body = orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Payload(body, {"Content-Type": JSON_TYPE, "Accept": JSON_TYPE})


def oip_binary(inputs: Arrays, boundary: int = 1) -> Payload:
    """The Open Inference Protocol's binary data extension, for the response too.

    Args:
        inputs: The arrays by name.
        boundary: The first tensor's data begins at a multiple of this number of bytes, behind spaces after the JSON.
    """
    tensors = [
        _describe(name, array) | {"parameters": {"binary_data_size": array.nbytes}} for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    head += b" " * (-len(head) % boundary)
    body = head + b"".join(array.tobytes() for array in inputs.values())
    return Payload(body, {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(len(head))})


def npy(array: numpy.ndarray) -> Payload:
    """One array as NumPy saves it."""
    file = io.BytesIO()
    numpy.save(file, array)
    return Payload(file.getvalue(), {"Content-Type": NPY_TYPE})


def npz(inputs: Arrays) -> Payload:
    """NumPy's own archive, uncompressed."""
    file = io.BytesIO()
    numpy.savez(file, **inputs)  # type: ignore[arg-type]  # the names are free
    return Payload(file.getvalue(), {"Content-Type": NPZ_TYPE, "Accept": NPZ_TYPE})


def gzipped(payload: Payload) -> Payload:
    """The same request, its body compressed."""
    return Payload(gzip.compress(payload.body, 1), {**payload.headers, "Content-Encoding": "gzip"})


def in_shared_memory(inputs: Arrays, outputs: Mapping[str, int], region: SharedMemory) -> Payload:
    """Tensors of the Open Inference Protocol in shared memory, those of the response too.

    Args:
        inputs: The arrays by name; they are written to the beginning of the region.
        outputs: The bytes of each output by name; their space follows and is zeroed, so that nothing of an earlier
            response is left there.
        region: At least as large as all of them together.
    """
    tensors, end, buffer = [], 0, region.buf
    assert buffer is not None, "the region is open"
    for name, array in inputs.items():
        place = Region(region.name, end, array.nbytes)
        end += array.nbytes
        buffer[place.offset : end] = array.tobytes()
        tensors.append(_describe(name, array) | {"parameters": place.describe()})
    requested = []
    for name, size in outputs.items():
        requested.append({"name": name, "parameters": Region(region.name, end, size).describe()})
        buffer[end : end + size] = bytes(size)
        end += size
    body = json.dumps({"inputs": tensors, "outputs": requested}).encode()
    return Payload(body, {"Content-Type": JSON_TYPE, "Accept": JSON_TYPE})


@contextlib.contextmanager
def shared_region(size: int) -> Iterator[SharedMemory]:
    """Creates a region of `size` bytes, and removes it afterwards."""
    region = SharedMemory(f"{REGION_PREFIX}{os.getpid()}", create=True, size=size)
    try:
        yield region
    finally:
        with contextlib.suppress(BufferError):
            region.close()
        region.unlink()


def _describe(name: str, array: numpy.ndarray) -> dict[str, object]:
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype.name]}
