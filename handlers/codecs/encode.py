"""From the outputs of one request, or its error, to the bytes of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy
import orjson

from handlers.codecs import negotiation as accept
from handlers.codecs import oip
from handlers.codecs import oip_grpc as grpc_infer
from handlers.codecs.json_output import MAX_RESPONSE_BYTES, TooLarge, write_json
from handlers.codecs.npy import NPZ_TYPE, write_npz
from handlers.codecs.request import Answer
from handlers.errors import RequestError

JSON_TYPE = "application/json"
# Of our own making: the protocol has no media type but application/json, which is taken.
OIP_TYPE = "application/vnd.oip+json"
BINARY_TYPE = "application/octet-stream"

# Of an .npz, beside its arrays.
_NPZ_OVERHEAD = 1 << 12

_OFFERS = (JSON_TYPE, NPZ_TYPE, OIP_TYPE)


class Reply(NamedTuple):
    """How one request wants to be answered.

    Attributes:
        content_type: of the answer, binary data of the Open Inference Protocol aside.
        call: what an Open Inference Protocol request says of its answer; `None` for any other request.
        text_errors: whether an error is a text, as that protocol wants it, and not an object.
        grpc_infer: whether the answer becomes that protocol's gRPC message.
    """

    content_type: str = JSON_TYPE
    call: oip.Call | None = None
    text_errors: bool = False
    grpc_infer: bool = False


PLAIN = Reply()


def choose_reply(accept_header: str, call: oip.Call | None = None) -> Reply:
    """The reply that the `Accept` header of a request (`""` if absent) asks for; `call` if it came in that protocol.

    Raises:
        RequestError: 406, none of ours is accepted.
    """
    if call is not None and call.wants_binary:
        # The request itself asks for binary data: whoever accepts either kind of body gets it.
        chosen = accept.choose(accept_header, (*_OFFERS, BINARY_TYPE))
        return Reply(JSON_TYPE if chosen == BINARY_TYPE else chosen, call)
    chosen = accept.choose(accept_header, _OFFERS)
    return PLAIN if call is None and chosen == JSON_TYPE else Reply(chosen, call)


def encode_outputs(
    outputs: Mapping[str, Any],
    reply: Reply = PLAIN,
    *,
    model_name: str = "",
    model_version: str = "",
    max_bytes: int = MAX_RESPONSE_BYTES,
) -> Answer:
    """The answer that `reply` asks for.

    JSON: an object of the outputs by name; arrays become nested lists, NaN and infinity become null. `.npz`:
    uncompressed. Open Inference Protocol: as `application/json` to a request in that protocol, else by its own type;
    only there the model's name and version are said.

    Raises:
        RequestError: 406, an output is no tensor and only JSON can hold it; an output is wanted that is not there; or
            413, the answer is larger than `max_bytes`, most often found before it is built.
        TypeError: an output is nothing that JSON can hold.
    """
    try:
        if reply is PLAIN or (reply.call is None and reply == PLAIN):
            return Answer(200, JSON_TYPE, write_json(dict(outputs), max_bytes))
        return _encode(outputs, reply, model_name, model_version, max_bytes)
    except TooLarge:
        raise _too_large(outputs, reply, max_bytes) from None


def _encode(outputs: Mapping[str, Any], reply: Reply, model_name: str, model_version: str, max_bytes: int) -> Answer:
    if reply.grpc_infer:
        call = reply.call or oip.Call()
        document = grpc_infer.document(_tensors(outputs), call, model_name, model_version, max_bytes)
        return Answer(200, JSON_TYPE, write_json(document, max_bytes))
    arrays = _tensors(outputs)
    if reply.content_type == NPZ_TYPE:
        _check_size(sum(array.nbytes for array in arrays.values()), max_bytes)
        body = write_npz(arrays)
        _check_size(len(body), max_bytes)
        return Answer(200, NPZ_TYPE, body)
    call = reply.call or oip.Call()
    body, json_length = oip.write_answer(arrays, call, model_name, model_version, max_bytes)
    _check_size(len(body), max_bytes)
    if json_length is None:
        return Answer(200, reply.content_type, body)
    return Answer(200, BINARY_TYPE, body, {oip.JSON_LENGTH_HEADER: str(json_length)})


def _too_large(outputs: Mapping[str, Any], reply: Reply, max_bytes: int) -> RequestError:
    said = f"the answer would be larger than {max_bytes} bytes, which is all that is sent"
    size = sum(value.nbytes for value in outputs.values() if isinstance(value, numpy.ndarray | numpy.generic))
    binary = reply.content_type == NPZ_TYPE or (reply.call is not None and reply.call.wants_binary)
    if not binary and 0 < size < max_bytes - _NPZ_OVERHEAD:
        return RequestError(
            f"{said}; as {NPZ_TYPE} (Accept) or binary data of the Open Inference Protocol it takes about {size}",
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    return RequestError(f"{said}; send less at once", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def encode_error(error: RequestError, reply: Reply = PLAIN, *, model_name: str = "", model_version: str = "") -> Answer:
    """A JSON object `{"error": {"code", "field", "message"}}` under the error's status, whatever was asked for.

    To a request of the Open Inference Protocol it is `{"error": message}`.
    """
    try:
        if reply.grpc_infer:
            document = grpc_infer.refusal(error.message, reply.call or oip.Call(), model_name, model_version)
        elif reply.text_errors or reply.call is not None or error.open_inference:
            document = {"error": error.message}
        else:
            document = error.as_dict()
        return Answer(error.status, JSON_TYPE, orjson.dumps(document))
    except Exception:  # what a hook has made of its own error
        body = {"error": {"code": 500, "field": None, "message": "the error cannot be written as JSON"}}
        return Answer(500, JSON_TYPE, orjson.dumps(body))


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLarge


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
