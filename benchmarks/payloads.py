"""Arrays as the bodies of requests, in the formats that servers are compared by."""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from multiprocessing.shared_memory import SharedMemory
from typing import NamedTuple

import numpy
import orjson

from handlers.codecs.npy import NPZ_TYPE
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
# What the names of the benchmarks' shared memory begin with, as a served model's configuration must say.
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
    """The Open Inference Protocol's tensors, their data flat."""
    tensors = [
        {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype.name], "data": array.ravel()}
        for name, array in inputs.items()
    ]
    body = orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Payload(body, {"Content-Type": JSON_TYPE, "Accept": JSON_TYPE})


def oip_binary(inputs: Arrays, boundary: int = 1) -> Payload:
    """The Open Inference Protocol's binary data extension, the answer binary too.

    Args:
        inputs: by name.
        boundary: spaces behind the JSON bring the first tensor's data to a multiple of so many bytes.
    """
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": DATATYPES[array.dtype.name],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    head += b" " * (-len(head) % boundary)
    body = head + b"".join(array.tobytes() for array in inputs.values())
    return Payload(body, {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(len(head))})


def npz(inputs: Arrays) -> Payload:
    """NumPy's own archive, uncompressed."""
    file = io.BytesIO()
    numpy.savez(file, **inputs)
    return Payload(file.getvalue(), {"Content-Type": NPZ_TYPE, "Accept": NPZ_TYPE})


def in_shared_memory(inputs: Arrays, outputs: Mapping[str, int], region: SharedMemory) -> Payload:
    """The Open Inference Protocol's tensors in shared memory, those of the answer too.

    Args:
        inputs: by name; they are written to the region's beginning.
        outputs: bytes of each by name; room for them follows, and is wiped, so that what is there is an answer's.
        region: as large as all of them together.
    """
    tensors, end = [], 0
    for name, array in inputs.items():
        place = Region(region.name, end, array.nbytes)
        end += array.nbytes
        region.buf[place.offset : end] = array.tobytes()
        datatype = DATATYPES[array.dtype.name]
        tensors.append({"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": place.describe()})
    wanted = []
    for name, size in outputs.items():
        wanted.append({"name": name, "parameters": Region(region.name, end, size).describe()})
        region.buf[end : end + size] = bytes(size)
        end += size
    body = json.dumps({"inputs": tensors, "outputs": wanted}).encode()
    return Payload(body, {"Content-Type": JSON_TYPE, "Accept": JSON_TYPE})


@contextlib.contextmanager
def shared_region(size: int) -> Iterator[SharedMemory]:
    """A region of so many bytes that is gone afterwards."""
    region = SharedMemory(f"{REGION_PREFIX}{os.getpid()}", create=True, size=size)
    try:
        yield region
    finally:
        with contextlib.suppress(BufferError):
            region.close()
        region.unlink()
