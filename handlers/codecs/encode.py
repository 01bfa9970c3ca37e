"""From the outputs of one request, or its error, to the bytes of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import numpy
import orjson

from handlers.codecs import oip
from handlers.codecs import oip_grpc as grpc_infer
from handlers.codecs.json_output import ResponseTooLarge, write_json
from handlers.codecs.limits import MAX_RESPONSE_BYTES
from handlers.codecs.negotiation import BINARY_TYPE, JSON_TYPE, PLAIN_JSON, ResponseFormat
from handlers.codecs.npy import NPZ_TYPE, write_npz
from handlers.codecs.request import Response
from handlers.errors import RequestError

# Bytes of an .npz in addition to its arrays.
_NPZ_OVERHEAD = 1 << 12


def encode_outputs(
    outputs: Mapping[str, Any],
    response_format: ResponseFormat = PLAIN_JSON,
    *,
    model_name: str = "",
    model_version: str = "",
    max_bytes: int = MAX_RESPONSE_BYTES,
) -> Response:
    """The answer that `response_format` asks for.

    JSON: an object of the outputs by name; arrays become nested lists, NaN and infinity become null. `.npz`:
    uncompressed. Open Inference Protocol: as `application/json` to a request in that protocol, else by its own type;
    only there the model's name and version are said.

    Raises:
        RequestError: 406, an output is no tensor and only JSON can hold it; an output is wanted that is not there; or
            413, the answer is larger than `max_bytes`, most often found before it is built.
        TypeError: an output is nothing that JSON can hold.
    """
    try:
        if response_format is PLAIN_JSON or (response_format.infer_request is None and response_format == PLAIN_JSON):
            return Response(200, JSON_TYPE, write_json(dict(outputs), max_bytes))
        return _encode(outputs, response_format, model_name, model_version, max_bytes)
    except ResponseTooLarge:
        raise _too_large(outputs, response_format, max_bytes) from None


def _encode(
    outputs: Mapping[str, Any], response_format: ResponseFormat, model_name: str, model_version: str, max_bytes: int
) -> Response:
    if response_format.grpc_infer:
        call = response_format.infer_request or oip.InferRequest()
        document = grpc_infer.document(_tensors(outputs), call, model_name, model_version, max_bytes)
        return Response(200, JSON_TYPE, write_json(document, max_bytes))
    arrays = _tensors(outputs)
    if response_format.content_type == NPZ_TYPE:
        _check_size(sum(array.nbytes for array in arrays.values()), max_bytes)
        body = write_npz(arrays)
        _check_size(len(body), max_bytes)
        return Response(200, NPZ_TYPE, body)
    call = response_format.infer_request or oip.InferRequest()
    body, json_length = oip.write_infer_response(arrays, call, model_name, model_version, max_bytes)
    _check_size(len(body), max_bytes)
    if json_length is None:
        return Response(200, response_format.content_type, body)
    return Response(200, BINARY_TYPE, body, {oip.JSON_LENGTH_HEADER: str(json_length)})


def _too_large(outputs: Mapping[str, Any], response_format: ResponseFormat, max_bytes: int) -> RequestError:
    said = f"the answer would be larger than {max_bytes} bytes, which is all that is sent"
    size = sum(value.nbytes for value in outputs.values() if isinstance(value, numpy.ndarray | numpy.generic))
    binary = response_format.content_type == NPZ_TYPE or (
        response_format.infer_request is not None and response_format.infer_request.wants_binary
    )
    if not binary and 0 < size < max_bytes - _NPZ_OVERHEAD:
        return RequestError(
            f"{said}; as {NPZ_TYPE} (Accept) or binary data of the Open Inference Protocol it takes about {size}",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    return RequestError(f"{said}; send less at once", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def encode_error(
    error: RequestError, response_format: ResponseFormat = PLAIN_JSON, *, model_name: str = "", model_version: str = ""
) -> Response:
    """A JSON object `{"error": {"code", "field", "message"}}` under the error's status, whatever was asked for.

    To a request of the Open Inference Protocol it is `{"error": message}`.
    """
    try:
        if response_format.grpc_infer:
            document = grpc_infer.refusal(
                error.message, response_format.infer_request or oip.InferRequest(), model_name, model_version
            )
        elif response_format.text_errors or response_format.infer_request is not None or error.open_inference:
            document = {"error": error.message}
        else:
            document = error.as_dict()
        return Response(error.status, JSON_TYPE, orjson.dumps(document))
    except Exception:  # what a hook has made of its own error
        body = {"error": {"code": 500, "field": None, "message": "the error cannot be written as JSON"}}
        return Response(500, JSON_TYPE, orjson.dumps(body))


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ResponseTooLarge


def _tensors(outputs: Mapping[str, Any]) -> dict[str, numpy.ndarray]:
    """The outputs as contiguous arrays of the machine's byte order."""
    arrays = {}
    for name, value in outputs.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of an output is a {type(name).__name__}")
        try:
            array = numpy.asarray(value)
        except ValueError:  # nested lists of different lengths
            array = numpy.empty(0, object)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise RequestError(
                f"the output '{name}' is no tensor, so this answer can only be had as {JSON_TYPE}", status=406
            )
        if not (array.flags.c_contiguous and array.dtype.isnative):
            array = numpy.require(array, array.dtype.newbyteorder("="), "C")
        arrays[name] = array
    return arrays
