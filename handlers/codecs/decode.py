"""From the bytes of a request to one array per input of the signature."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from handlers.codecs import content_encoding as compressed
from handlers.codecs import npy, oip
from handlers.codecs.budget import Budget
from handlers.codecs.encode import Reply, choose_reply
from handlers.codecs.images import MAGIC as IMAGE_MAGIC
from handlers.codecs.images import accepts_image, decode_image
from handlers.codecs.json_arrays import MAX_BYTES as MAX_JSON_BYTES
from handlers.codecs.json_arrays import parse_json
from handlers.codecs.request import BODY, Buffer, Part, Request
from handlers.codecs.shared_memory import OFF, SharedMemory
from handlers.errors import RequestError
from handlers.signature import MAX_NAME, TensorSpec

_JSON_LENGTH = oip.JSON_LENGTH_HEADER.lower()
_ENCODING = compressed.HEADER.lower()
_MAYBE_JSON = ("", "application/json", "text/plain", "application/octet-stream")
# The first bytes of all kinds but JSON.
_MAGIC_BYTES = {magic[0] for magic in (*IMAGE_MAGIC, npy.NPY_MAGIC, *npy.NPZ_MAGIC)}
_KINDS = {npy.NPY_TYPE: "npy", npy.NPZ_TYPE: "npz"}


class Decoded(NamedTuple):
    """A request as the model and the encoder need it: arrays by name, and how it wants to be answered."""

    inputs: dict[str, numpy.ndarray]
    reply: Reply


def decode_request(
    request: Request,
    specs: Sequence[TensorSpec],
    max_image_pixels: int,
    max_npz_bytes: int = npy.MAX_UNPACKED_BYTES,
    memory: SharedMemory = OFF,
    max_json_bytes: int = MAX_JSON_BYTES,
) -> Decoded:
    """The inputs of one request, converted to their dtypes and checked against their shapes.

    Accepted: parts named as the inputs (multipart form), each a PNG/JPEG, an `.npy`, an `.npz` of one array, or a JSON
    value; a body that is one JSON object or one `.npz` holding the inputs by name; an Open Inference Protocol request;
    a PNG/JPEG, an `.npy` or a bare JSON array alone, where the model has a single input.

    A whole body may be compressed with gzip or deflate. Arrays that come as bytes of the right dtype, aligned and in C
    order, are views of the request's own buffer.

    Args:
        request: the parts and headers.
        specs: the inputs of the model.
        max_image_pixels: what the images may have together.
        max_npz_bytes: what the inputs may be together in their dtypes, and what may be unpacked or read from shared
            memory for them.
        memory: the shared memory that the request may name.
        max_json_bytes: what a JSON text may have once it is unpacked.

    Raises:
        RequestError: naming the field that is missing, unknown, unreadable or of the wrong type, shape or size; or 406
            if no answer of ours is accepted; or 413 if it asks for more than the bounds, before it is given any of it.
    """
    if not request:
        # curl -d without a Content-Type arrives as a form without a single part.
        raise RequestError(
            "the request holds no input (JSON needs the header 'Content-Type: application/json'); " + _wanted(specs)
        )
    headers = getattr(request, "headers", {})  # a plain dictionary of parts has none
    names = {spec.name for spec in specs}
    values, call, typed = request, None, False
    budget = Budget(max_npz_bytes, max_image_pixels, max_json_bytes)
    if len(request) == 1 and BODY in request and BODY not in names:
        body = request[BODY]
        if _ENCODING in headers:
            unpacked = compressed.unpack(body.content, headers[_ENCODING], max_npz_bytes)
            if unpacked is not body.content:
                budget.take_unpacked(len(unpacked))
                body = body._replace(content=unpacked)
        json_length = headers.get(_JSON_LENGTH)
        values, call, typed = _values_of_body(body, json_length, specs, names, budget, memory)
    try:
        if values.keys() != names:
            _complain_of_names(values, specs, form=values is request)
        present = [spec for spec in specs if spec.name in values]
        inputs = {spec.name: _decode_value(values[spec.name], spec, typed, budget) for spec in present}
        return Decoded(inputs, choose_reply(headers.get("accept", ""), call))
    except RequestError as error:
        error.open_inference = call is not None
        raise


def _kind(part: Part) -> str:
    """`image`, `npy`, `npz`, or `""`: what the first bytes say, or else the declared media type."""
    if part.content and part.content[0] in _MAGIC_BYTES:
        start = bytes(part.content[:8])
        for kind, magic in (("image", IMAGE_MAGIC), ("npy", npy.NPY_MAGIC), ("npz", npy.NPZ_MAGIC)):
            if start.startswith(magic):
                return kind
    if not part.content_type:
        return ""
    media_type = _media_type(part)
    return "image" if media_type.startswith("image/") else _KINDS.get(media_type, "")


def _values_of_body(
    body: Part,
    json_length: str | None,
    specs: Sequence[TensorSpec],
    names: set[str],
    budget: Budget,
    memory: SharedMemory,
) -> tuple[Mapping[str, Any], oip.Call | None, bool]:
    """The values by name, what an Open Inference Protocol request says of its answer, and whether each has a dtype."""
    content = body.content
    if len(content) == 0:
        raise RequestError("the request's body is empty; " + _wanted(specs))
    if json_length is not None:
        text, binary = oip.split_body(content, json_length)
        document = parse_json(text, None, specs, budget.max_json_bytes)
        if not oip.is_call(document, set()):
            raise RequestError(f'{oip.JSON_LENGTH_HEADER} is for an Open Inference Protocol request: {{"inputs": […]}}')
        return *_values_of_call(document, binary, specs, names, memory), True
    kind = _kind(body)
    if kind == "npz":
        members = npy.list_npz(content, None, budget.max_bytes)
        if members.keys() != names:
            _complain_of_names(members, specs)
        budget.take_unpacked(sum(member.allocates for member in members.values()))
        return {name: npy.read_member(content, member, name) for name, member in members.items()}, None, True
    if kind:
        if len(specs) > 1:
            raise RequestError("send each input as a part of a multipart form, or all in an .npz; " + _wanted(specs))
        return {specs[0].name: body}, None, False
    media_type = _media_type(body)
    if media_type not in _MAYBE_JSON and not media_type.endswith("+json"):
        raise RequestError(
            f"a body of type '{media_type}' is not accepted; send application/json, multipart/form-data, image/png, "
            f"image/jpeg, {npy.NPY_TYPE} or {npy.NPZ_TYPE}",
            status=415,
        )
    document = parse_json(content, None, specs, budget.max_json_bytes)
    if oip.is_call(document, names):
        return *_values_of_call(document, memoryview(b""), specs, names, memory), True
    if isinstance(document, dict):
        return document, None, False
    if len(specs) == 1:
        return {specs[0].name: document}, None, False
    raise RequestError(f"expected a JSON object, got {_json_type(document)}; " + _wanted(specs))


def _values_of_call(
    document: dict[str, Any], binary: memoryview, specs: Sequence[TensorSpec], names: set[str], memory: SharedMemory
) -> tuple[dict[str, Any], oip.Call]:
    try:
        # Before a tensor is read: there are then no more of them than the model has inputs.
        given = set(oip.input_names(document))
        if given != names:
            _complain_of_names(given, specs)
        return oip.read_tensors(document, binary, memory), oip.read_call(document, memory)
    except RequestError as error:
        error.open_inference = True
        raise


def _decode_value(value: Any, spec: TensorSpec, typed: bool, budget: Budget) -> numpy.ndarray:
    if not isinstance(value, Part):
        return _convert(value, spec, typed, budget)
    content, kind = value.content, _kind(value)
    if kind == "image":
        return spec.convert(decode_image(content, spec, budget))  # it has counted its pixels before it made them
    if kind == "npy":
        return _convert(npy.read_npy(content, spec.name), spec, True, budget)
    if kind == "npz":
        members = list(npy.list_npz(content, spec.name, budget.max_bytes).values())
        if len(members) != 1:
            raise RequestError(f"'{spec.name}' is an .npz of {len(members)} arrays, not of one", field=spec.name)
        budget.take_unpacked(members[0].allocates, spec.name)
        return _convert(npy.read_member(content, members[0], spec.name), spec, True, budget)
    if len(content) == 0:
        raise RequestError(f"'{spec.name}' is empty", field=spec.name)
    if not _looks_like_json(content):
        expected = "an image (PNG or JPEG), .npy nor JSON" if accepts_image(spec) else ".npy nor JSON"
        raise RequestError(f"'{spec.name}' is neither {expected}", field=spec.name)
    return _convert(parse_json(content, spec.name, (spec,), budget.max_json_bytes), spec, False, budget)


def _convert(value: Any, spec: TensorSpec, typed: bool, budget: Budget) -> numpy.ndarray:
    """The array that `spec` asks for, counted before it is made where its size is known before."""
    if isinstance(value, numpy.ndarray):
        budget.take_bytes(value.size * spec.dtype.itemsize, spec.name)
        return spec.convert(value, typed=typed)
    array = spec.convert(value, typed=typed)
    budget.take_bytes(array.nbytes, spec.name)
    return array


def _complain_of_names(given: Collection[str], specs: Sequence[TensorSpec], form: bool = False) -> None:
    """Raises `RequestError` for a name that is no input's, and for an input that is missing and not optional.

    Args:
        given: the names of what was sent; their look-up is fast.
        specs: the model's inputs.
        form: the names are those of parts.
    """
    known = {spec.name for spec in specs}
    unknown = [name for name in given if name not in known]
    if form and any(name.lstrip()[:1] in ("{", "[") for name in unknown):
        # curl -d without a Content-Type: the server parsed the JSON as a form.
        raise RequestError("the body was sent as a form; add the header 'Content-Type: application/json'", status=415)
    missing = [spec.name for spec in specs if spec.name not in given and not spec.optional]
    if missing:
        raise RequestError(f"'{missing[0]}' is missing; " + _wanted(specs), field=missing[0])
    if unknown:
        name = min(unknown)
        # A name that is too long is shortened in the message, and is no field at all.
        raise RequestError(f"'{name[:MAX_NAME]}' is not an input of this model; " + _wanted(specs), field=name)


def _wanted(specs: Sequence[TensorSpec]) -> str:
    return "this model takes " + ", ".join(f"'{spec.name}' ({spec.describe()})" for spec in specs)


def _media_type(part: Part) -> str:
    return part.content_type.partition(";")[0].strip().lower()


def _looks_like_json(content: Buffer) -> bool:
    start = bytes(content[:64]).removeprefix(BOM_UTF8).lstrip()[:1]
    return start != b"" and start in b'[{"-0123456789tfnNI'


def _json_type(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
