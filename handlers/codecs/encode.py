"""From the outputs of one request, or its error, to a response."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import numpy
import orjson

from handlers.codecs import oip, oip_grpc
from handlers.codecs.json_output import ResponseTooLarge, write_json
from handlers.codecs.limits import MAX_RESPONSE_BYTES
from handlers.codecs.negotiation import BINARY_TYPE, JSON_TYPE, PLAIN_JSON, ResponseFormat
from handlers.codecs.npy import NPZ_TYPE, write_npz
from handlers.codecs.request import Response
from handlers.errors import RequestError

# Bytes of an .npz in addition to its arrays.
_NPZ_OVERHEAD = 1 << 12
# For responses in that protocol to other requests: all outputs, as JSON.
_ALL_OUTPUTS = oip.InferRequest()


def encode_outputs(
    outputs: Mapping[str, Any],
    response_format: ResponseFormat = PLAIN_JSON,
    *,
    model_name: str = "",
    model_version: str = "",
    max_bytes: int = MAX_RESPONSE_BYTES,
) -> Response:
    """The response that `response_format` asks for.

    JSON: an object of the outputs by name; arrays become nested lists, NaN and infinity become null. `.npz`:
    uncompressed. Open Inference Protocol: as `application/json` to a request in that protocol, or else by its own type;
    only there the model's name and version appear.

    Raises:
        RequestError: 406, an output is not a tensor and only JSON can hold it; 400, an output is wanted that does not
            exist; or 413, the response is larger than `max_bytes`, usually found before it is built.
        TypeError: an output is something that JSON cannot hold.
    """
    try:
        if response_format == PLAIN_JSON:
            return Response(200, JSON_TYPE, write_json(dict(outputs), max_bytes))
        response = _encode(outputs, response_format, model_name, model_version, max_bytes)
        if len(response.body) > max_bytes:
            raise ResponseTooLarge
        return response
    except ResponseTooLarge:
        raise _size_error(outputs, response_format, max_bytes) from None


def _encode(
    outputs: Mapping[str, Any], response_format: ResponseFormat, model_name: str, model_version: str, max_bytes: int
) -> Response:
    arrays = _tensors(outputs)
    request = response_format.infer_request or _ALL_OUTPUTS
    if response_format.grpc_infer:
        document = oip_grpc.make_response(arrays, request, model_name, model_version, max_bytes)
        return Response(200, JSON_TYPE, write_json(document, max_bytes))
    if response_format.content_type == NPZ_TYPE:
        if sum(array.nbytes for array in arrays.values()) > max_bytes:
            raise ResponseTooLarge
        return Response(200, NPZ_TYPE, write_npz(arrays))
    body, json_length = oip.write_infer_response(arrays, request, model_name, model_version, max_bytes)
    if json_length is None:
        return Response(200, response_format.content_type, body)
    return Response(200, BINARY_TYPE, body, {oip.JSON_LENGTH_HEADER: str(json_length)})


def _size_error(outputs: Mapping[str, Any], response_format: ResponseFormat, max_bytes: int) -> RequestError:
    size = sum(value.nbytes for value in outputs.values() if isinstance(value, numpy.ndarray | numpy.generic))
    request, advice = response_format.infer_request, "send less per request"
    is_binary = response_format.content_type == NPZ_TYPE or (request is not None and request.wants_binary)
    if not is_binary and 0 < size < max_bytes - _NPZ_OVERHEAD:
        advice = f"as {NPZ_TYPE} (Accept) or binary data of the Open Inference Protocol it takes about {size}"
    message = f"the answer would be larger than {max_bytes} bytes, the most that is sent; {advice}"
    return RequestError(message, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def encode_error(
    error: RequestError, response_format: ResponseFormat = PLAIN_JSON, *, model_name: str = "", model_version: str = ""
) -> Response:
    """A JSON object `{"error": {"code", "field", "message"}}` with the error's status, whatever was asked for.

    For a request of the Open Inference Protocol it is `{"error": message}`.
    """
    try:
        request = response_format.infer_request
        if response_format.grpc_infer:
            request = request or _ALL_OUTPUTS
            document = oip_grpc.make_error_response(error.message, request, model_name, model_version)
        elif response_format.text_errors or request is not None or error.open_inference:
            document = {"error": error.message}
        else:
            document = error.as_dict()
        return Response(error.status, JSON_TYPE, orjson.dumps(document))
    except Exception:  # a hook's own kind of error
        body = {"error": {"code": 500, "field": None, "message": "the error cannot be written as JSON"}}
        return Response(500, JSON_TYPE, orjson.dumps(body))


def _tensors(outputs: Mapping[str, Any]) -> dict[str, numpy.ndarray]:
    """The outputs as contiguous arrays in the machine's byte order."""
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
                f"the output '{name}' is not a tensor, so this answer is only available as {JSON_TYPE}", status=406
            )
        if not (array.flags.c_contiguous and array.dtype.isnative):
            array = numpy.require(array, array.dtype.newbyteorder("="), "C")
        arrays[name] = array
    return arrays
