"""Responses that TorchServe turns into the Open Inference Protocol's gRPC message, `ModelInferResponse`.

With `ts_open_inference_protocol` TorchServe hands such requests over as JSON and parses the response as JSON: it needs
every name, takes the string "NaN" for that number, and cannot refuse a single request of a batch. What it cannot parse
ends the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from handlers.codecs.datatypes import DATATYPE_NAMES
from handlers.codecs.json_output import preserialize
from handlers.codecs.oip import InferRequest

ERROR_OUTPUT = "error"


def make_response(
    arrays: Mapping[str, numpy.ndarray], request: InferRequest, model_name: str, model_version: str, max_bytes: int
) -> dict[str, Any]:
    """The document that holds these arrays.

    Raises:
        ResponseTooLarge: their text has more than `max_bytes`.
    """
    # The message has no field for float16.
    held = {name: array.astype("f4") if array.dtype == numpy.float16 else array for name, array in arrays.items()}
    texts = preserialize({name: array.ravel() for name, array in held.items()}, max_bytes)
    outputs = []
    for name, array in held.items():
        data = texts[name] if array.dtype.kind != "f" or numpy.isfinite(array).all() else _numbers_and_names(array)
        outputs.append({"name": name, "datatype": DATATYPE_NAMES[array.dtype], "shape": array.shape, "data": data})
    return _named(request, model_name, model_version) | {"outputs": outputs}


def make_error_response(message: str, request: InferRequest, model_name: str, model_version: str) -> dict[str, Any]:
    """The document whose only output is a message, under the name ERROR_OUTPUT."""
    output = {"name": ERROR_OUTPUT, "datatype": "BYTES", "shape": [1], "data": [message]}
    return _named(request, model_name, model_version) | {"outputs": [output]}


def _named(request: InferRequest, model_name: str, model_version: str) -> dict[str, Any]:
    return {"id": request.id or "", "model_name": model_name, "model_version": model_version}


def _numbers_and_names(array: numpy.ndarray) -> list[Any]:
    """Numbers, and the names of those that JSON does not have."""
    numbers: list[Any] = array.ravel().tolist()
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    for index in numpy.flatnonzero(~numpy.isfinite(array)).tolist():
        numbers[index] = names[str(numbers[index])]
    return numbers
