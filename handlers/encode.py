"""From the outputs of one request, or its error, to the bytes of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy
import orjson

from handlers import accept, oip
from handlers.errors import RequestError
from handlers.npy import NPZ_TYPE, write_npz
from handlers.request import Answer

JSON_TYPE = "application/json"
# Of our own making: the protocol has no media type but application/json, which is taken.
OIP_TYPE = "application/vnd.oip+json"
BINARY_TYPE = "application/octet-stream"

_OFFERS = (JSON_TYPE, NPZ_TYPE, OIP_TYPE)


class Reply(NamedTuple):
    """How one request wants to be answered.

    Attributes:
        content_type: of the answer, binary data of the Open Inference Protocol aside.
        call: what an Open Inference Protocol request says of its answer; `None` for any other request.
    """

    content_type: str = JSON_TYPE
    call: oip.Call | None = None


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
    return Reply(accept.choose(accept_header, _OFFERS), call)


def encode_outputs(
    outputs: Mapping[str, Any], reply: Reply = PLAIN, *, model_name: str = "", model_version: str = ""
) -> Answer:
    """The answer that `reply` asks for.

    JSON: an object of the outputs by name; arrays become nested lists, NaN and infinity become null. `.npz`:
    uncompressed. Open Inference Protocol: as `application/json` to a request in that protocol, else by its own type;
    only there the model's name and version are said.

    Raises:
        RequestError: 406, an output is no tensor and only JSON can hold it; or an output is wanted that is not there.
    """
    if reply == PLAIN:
        return Answer(200, JSON_TYPE, _dumps(dict(outputs)))
    if reply.content_type == NPZ_TYPE:
        return Answer(200, NPZ_TYPE, write_npz(_tensors(outputs)))
    call = reply.call or oip.Call()
    body, json_length = oip.write_answer(_tensors(outputs), call, model_name, model_version)
    if json_length is None:
        return Answer(200, reply.content_type, body)
    return Answer(200, BINARY_TYPE, body, {oip.JSON_LENGTH_HEADER: str(json_length)})


def encode_error(error: RequestError) -> Answer:
    """A JSON object `{"error": {"code", "field", "message"}}` under the error's status, whatever was asked for."""
    return Answer(error.status, JSON_TYPE, orjson.dumps(error.as_dict()))


def _dumps(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY, default=_unusual)


def _unusual(value: Any) -> Any:
    """What orjson does not write by itself: arrays that are not contiguous, of text, or of no dimension."""
    if isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in "biufU":
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _tensors(outputs: Mapping[str, Any]) -> dict[str, numpy.ndarray]:
    """The outputs as contiguous arrays of the machine's byte order."""
    arrays = {}
    for name, value in outputs.items():
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
