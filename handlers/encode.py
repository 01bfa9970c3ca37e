"""From the outputs of one request, or its error, to the bytes of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from handlers.errors import RequestError
from handlers.request import Answer

JSON = "application/json"


def encode_outputs(outputs: Mapping[str, Any]) -> Answer:
    """A JSON object of the outputs by name; arrays become nested lists, NaN and infinity become null."""
    return Answer(200, JSON, orjson.dumps(dict(outputs), option=orjson.OPT_SERIALIZE_NUMPY))


def encode_error(error: RequestError) -> Answer:
    """A JSON object `{"error": {"code", "field", "message"}}` under the error's status."""
    return Answer(error.status, JSON, orjson.dumps(error.as_dict()))
