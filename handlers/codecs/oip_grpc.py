"""Answers that TorchServe turns into the Open Inference Protocol's gRPC message, `ModelInferResponse`.

With `ts_open_inference_protocol` TorchServe hands such requests over as JSON, and reads the answer as JSON again: it
needs every name to be there, takes the text "NaN" where a number is meant, and has no way to refuse one request of
several. What it cannot read ends the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from handlers.codecs import oip
from handlers.codecs.json_output import written

ERROR_OUTPUT = "error"


def document(
    arrays: Mapping[str, numpy.ndarray], call: oip.Call, model_name: str, model_version: str, max_bytes: int
) -> dict[str, Any]:
    """The answer that holds these arrays.

    Raises:
        TooLarge: their text has more than `max_bytes`.
    """
    # The message has no field for float16.
    held = {name: array.astype("f4") if array.dtype == numpy.float16 else array for name, array in arrays.items()}
    texts = written({name: array.ravel() for name, array in held.items()}, max_bytes)
    outputs = []
    for name, array in held.items():
        data = texts[name] if array.dtype.kind != "f" or numpy.isfinite(array).all() else _with_texts(array)
        outputs.append({"name": name, "datatype": oip.datatype_of(array), "shape": array.shape, "data": data})
    return _named(call, model_name, model_version) | {"outputs": outputs}


def refusal(message: str, call: oip.Call, model_name: str, model_version: str) -> dict[str, Any]:
    """The answer that holds no output of the model but a text, under the name ERROR_OUTPUT."""
    output = {"name": ERROR_OUTPUT, "datatype": "BYTES", "shape": [1], "data": [message]}
    return _named(call, model_name, model_version) | {"outputs": [output]}


def _named(call: oip.Call, model_name: str, model_version: str) -> dict[str, Any]:
    return {"id": call.id or "", "model_name": model_name, "model_version": model_version}


def _with_texts(array: numpy.ndarray) -> list[Any]:
    """Numbers as JSON has them, and texts for those it has not."""
    numbers: list[Any] = array.ravel().tolist()
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    for index in numpy.flatnonzero(~numpy.isfinite(array)).tolist():
        numbers[index] = names[str(numbers[index])]
    return numbers
