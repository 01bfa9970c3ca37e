"""Arrays as the bodies of requests, in the formats that servers are compared by."""

import io
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy
import orjson

from handlers.npy import NPZ_TYPE
from handlers.oip import JSON_LENGTH_HEADER

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
