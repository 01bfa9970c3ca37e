"""From the bytes of a request to one array per input of the signature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy
import orjson

from handlers.errors import RequestError
from handlers.images import accepts_image, decode_image, looks_like_image
from handlers.request import BODY, Part, Request
from handlers.signature import TensorSpec


def decode_request(request: Request, specs: Sequence[TensorSpec], max_image_pixels: int) -> dict[str, numpy.ndarray]:
    """The inputs of one request, converted to their dtypes and checked against their shapes.

    Accepted: parts named as the inputs (multipart form), each a PNG/JPEG or a JSON value; one JSON object holding the
    inputs by name; a PNG/JPEG alone, or a bare JSON array, where the model has a single input.

    Raises:
        RequestError: naming the field that is missing, unknown, unreadable or of the wrong type, shape or size.
    """
    if not request:
        # curl -d without a Content-Type arrives as a form without a single part.
        raise RequestError(
            "the request holds no input (JSON needs the header 'Content-Type: application/json'); " + _wanted(specs)
        )
    if set(request) == {BODY} and BODY not in {spec.name for spec in specs}:
        values = _values_of_body(request[BODY], specs)
    else:
        values = dict(request)
    _check_names(values, specs)
    present = [spec for spec in specs if spec.name in values]
    return {spec.name: _decode_value(values[spec.name], spec, max_image_pixels) for spec in present}


def _values_of_body(body: Part, specs: Sequence[TensorSpec]) -> dict[str, Any]:
    media_type = _media_type(body)
    if len(body.content) == 0:
        raise RequestError("the request's body is empty; " + _wanted(specs))
    if looks_like_image(body.content) or media_type.startswith("image/"):
        if len(specs) > 1:
            raise RequestError("send each input as a part of a multipart form; " + _wanted(specs))
        return {specs[0].name: body}
    if not _may_be_json(media_type):
        raise RequestError(
            f"a body of type '{media_type}' is not accepted; send application/json, multipart/form-data, image/png "
            "or image/jpeg",
            status=415,
        )
    document = parse_json(body.content, None)
    if isinstance(document, dict):
        return document
    if len(specs) == 1:
        return {specs[0].name: document}
    raise RequestError(f"expected a JSON object, got {_json_type(document)}; " + _wanted(specs))


def _decode_value(value: Any, spec: TensorSpec, max_image_pixels: int) -> numpy.ndarray:
    if not isinstance(value, Part):
        return spec.convert(value)
    media_type = _media_type(value)
    if looks_like_image(value.content) or media_type.startswith("image/"):
        return spec.convert(decode_image(value.content, spec, max_image_pixels))
    if len(value.content) == 0:
        raise RequestError(f"'{spec.name}' is empty", field=spec.name)
    if not _looks_like_json(value.content):
        expected = "an image (PNG or JPEG) or JSON" if accepts_image(spec) else "JSON"
        raise RequestError(f"'{spec.name}' is neither {expected}", field=spec.name)
    return spec.convert(parse_json(value.content, spec.name))


def parse_json(content: bytes | bytearray | memoryview, field: str | None) -> Any:
    """Parses JSON text; NaN and Infinity, which JSON has not but many writers emit, are let through as numbers.

    Raises:
        RequestError: not JSON.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            # The strict parser is the fast one; the lenient one only decides which field is at fault.
            return json.loads(bytes(content))
        except (ValueError, RecursionError):
            name = f"'{field}'" if field else "the request's body"
            raise RequestError(f"{name} is not valid JSON: {error}", field=field) from error


def _check_names(values: dict[str, Any], specs: Sequence[TensorSpec]) -> None:
    known = {spec.name for spec in specs}
    for name in values.keys() - known:
        if name.lstrip()[:1] in ("{", "["):
            # curl -d without a Content-Type: the server parsed the JSON as a form.
            raise RequestError(
                "the body was sent as a form; add the header 'Content-Type: application/json'", status=415
            )
    missing = [spec.name for spec in specs if spec.name not in values and not spec.optional]
    if missing:
        raise RequestError(f"'{missing[0]}' is missing; " + _wanted(specs), field=missing[0])
    unknown = sorted(values.keys() - known)
    if unknown:
        raise RequestError(f"'{unknown[0]}' is not an input of this model; " + _wanted(specs), field=unknown[0])


def _wanted(specs: Sequence[TensorSpec]) -> str:
    return "this model takes " + ", ".join(f"'{spec.name}' ({spec.describe()})" for spec in specs)


def _media_type(part: Part) -> str:
    return part.content_type.partition(";")[0].strip().lower()


def _may_be_json(media_type: str) -> bool:
    return media_type in ("", "application/json", "text/plain", "application/octet-stream") or media_type.endswith(
        "+json"
    )


def _looks_like_json(content: bytes | bytearray | memoryview) -> bool:
    start = bytes(content[:64]).lstrip()[:1]
    return start != b"" and start in b'[{"-0123456789tfnNI'


def _json_type(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
