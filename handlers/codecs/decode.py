"""From the bytes of a request to one array per input of the signature."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy

from handlers.codecs import content_encoding, npy, oip
from handlers.codecs.budget import Budget
from handlers.codecs.images import IMAGE_MAGIC, accepts_image, decode_image
from handlers.codecs.json_arrays import parse_json_tensors
from handlers.codecs.limits import MAX_JSON_BYTES, MAX_UNPACKED_BYTES
from handlers.codecs.negotiation import ResponseFormat, choose_format
from handlers.codecs.request import BODY, Buffer, Part, Request
from handlers.codecs.shared_memory import NO_SHARED_MEMORY, SharedMemory
from handlers.errors import RequestError
from handlers.signature import MAX_NAME, TensorSpec

_JSON_LENGTH = oip.JSON_LENGTH_HEADER.lower()
_ENCODING = content_encoding.HEADER.lower()
_MAYBE_JSON = ("", "application/json", "text/plain", "application/octet-stream")
# The first byte of every kind except JSON.
_MAGIC_BYTES = {magic[0] for magic in (*IMAGE_MAGIC, npy.NPY_MAGIC, *npy.NPZ_MAGIC)}
_KINDS = {npy.NPY_TYPE: "npy", npy.NPZ_TYPE: "npz"}


class DecodedRequest(NamedTuple):
    """The arrays of a request by name, and how it wants to be answered."""

    inputs: dict[str, numpy.ndarray]
    response_format: ResponseFormat


def decode_request(
    request: Request,
    specs: Sequence[TensorSpec],
    max_image_pixels: int,
    max_npz_bytes: int = MAX_UNPACKED_BYTES,
    memory: SharedMemory = NO_SHARED_MEMORY,
    max_json_bytes: int = MAX_JSON_BYTES,
) -> DecodedRequest:
    """The inputs of one request, converted to their dtypes and checked against their shapes.

    Accepted: parts named like the inputs (multipart form), each a PNG/JPEG, an `.npy`, an `.npz` of one array, or a
    JSON value; a body that is one JSON object or one `.npz` with the inputs by name; an Open Inference Protocol
    request; and, if the model has a single input, a PNG/JPEG, an `.npy` or a JSON array alone.

    A whole body may be compressed with gzip or deflate. Arrays that come as bytes of the right dtype, aligned and in C
    order, are views of the request's own buffer.

    Args:
        request: the parts and headers.
        specs: the inputs of the model.
        max_image_pixels: of all images together.
        max_npz_bytes: of all inputs in their dtypes, and of what is unpacked or read from shared memory for them.
        memory: the shared memory that the request may name.
        max_json_bytes: of a JSON text, once it is unpacked.

    Raises:
        RequestError: naming the field that is missing, unknown, unreadable or of the wrong type, shape or size; or 406
            if no response format is accepted; or 413 if it exceeds a bound, before anything is made for it.
    """
    if not request:
        # curl -d without a Content-Type arrives as a form without any part.
        raise RequestError(
            "the request holds no input (JSON needs the header 'Content-Type: application/json'); " + _expected(specs)
        )
    headers = getattr(request, "headers", {})  # a plain dictionary of parts has none
    names = {spec.name for spec in specs}
    values: Mapping[str, Any] = request
    infer_request, typed = None, False
    budget = Budget(max_npz_bytes, max_image_pixels, max_json_bytes)
    if len(request) == 1 and BODY in request and BODY not in names:
        body = request[BODY]
        if _ENCODING in headers:
            unpacked = content_encoding.unpack(body.content, headers[_ENCODING], max_npz_bytes)
            if unpacked is not body.content:
                budget.take_unpacked(len(unpacked))
                body = body._replace(content=unpacked)
        values, infer_request, typed = _read_body(body, headers.get(_JSON_LENGTH), specs, names, budget, memory)
    try:
        if values.keys() != names:
            _raise_for_names(values, specs, form=values is request)
        present = [spec for spec in specs if spec.name in values]
        inputs = {spec.name: _decode_value(values[spec.name], spec, budget, typed=typed) for spec in present}
        return DecodedRequest(inputs, choose_format(headers.get("accept", ""), infer_request))
    except RequestError as error:
        error.open_inference = infer_request is not None
        raise


def _kind(part: Part) -> str:
    """`image`, `npy`, `npz` or `""`, by the first bytes, or else by the declared media type."""
    if part.content and part.content[0] in _MAGIC_BYTES:
        start = bytes(part.content[:8])
        for kind, magic in (("image", IMAGE_MAGIC), ("npy", npy.NPY_MAGIC), ("npz", npy.NPZ_MAGIC)):
            if start.startswith(magic):
                return kind
    if not part.content_type:
        return ""
    media_type = _media_type(part).lower()
    return "image" if media_type.startswith("image/") else _KINDS.get(media_type, "")


def _read_body(
    body: Part,
    json_length: str | None,
    specs: Sequence[TensorSpec],
    names: set[str],
    budget: Budget,
    memory: SharedMemory,
) -> tuple[Mapping[str, Any], oip.InferRequest | None, bool]:
    """The values by name, what an Open Inference Protocol request asks for, and whether the values have dtypes."""
    content = body.content
    if len(content) == 0:
        raise RequestError("the request's body is empty; " + _expected(specs))
    if json_length is not None:
        text, binary = oip.split_body(content, json_length)
        document = parse_json_tensors(text, None, specs, budget.max_json_bytes)
        if not oip.is_infer_request(document, set()):
            raise RequestError(f'{oip.JSON_LENGTH_HEADER} is for an Open Inference Protocol request: {{"inputs": […]}}')
        return *_read_infer_request(document, binary, specs, names, memory), True
    kind = _kind(body)
    if kind == "npz":
        members = npy.list_npz(content, None, budget.max_bytes)
        if members.keys() != names:
            _raise_for_names(members, specs)
        budget.take_unpacked(sum(member.unpacked_bytes for member in members.values()))
        return {name: npy.read_member(content, member, name) for name, member in members.items()}, None, True
    if kind:
        if len(specs) > 1:
            raise RequestError("send each input as a part of a multipart form, or all in an .npz; " + _expected(specs))
        return {specs[0].name: body}, None, False
    media_type = _media_type(body)
    if media_type.lower() not in _MAYBE_JSON and not media_type.lower().endswith("+json"):
        raise RequestError(
            f"a body of type '{media_type}' is not accepted; send application/json, multipart/form-data, image/png, "
            f"image/jpeg, {npy.NPY_TYPE} or {npy.NPZ_TYPE}",
            status=415,
        )
    document = parse_json_tensors(content, None, specs, budget.max_json_bytes)
    if oip.is_infer_request(document, names):
        return *_read_infer_request(document, memoryview(b""), specs, names, memory), True
    if isinstance(document, dict):
        return document, None, False
    if len(specs) == 1:
        return {specs[0].name: document}, None, False
    raise RequestError(f"expected a JSON object, got {_json_type(document)}; " + _expected(specs))


def _read_infer_request(
    document: dict[str, Any], binary: memoryview, specs: Sequence[TensorSpec], names: set[str], memory: SharedMemory
) -> tuple[dict[str, Any], oip.InferRequest]:
    try:
        # Checked before a tensor is read, so that there are no more of them than the model has inputs.
        given = set(oip.input_names(document))
        if given != names:
            _raise_for_names(given, specs)
        return oip.read_tensors(document, binary, memory), oip.read_infer_request(document, memory)
    except RequestError as error:
        error.open_inference = True
        raise


def _decode_value(value: Any, spec: TensorSpec, budget: Budget, *, typed: bool) -> numpy.ndarray:
    if not isinstance(value, Part):
        return _convert(value, spec, budget, typed=typed)
    content, kind = value.content, _kind(value)
    if kind == "image":
        return spec.convert(decode_image(content, spec, budget))  # its bytes are already counted
    if kind == "npy":
        return _convert(npy.read_npy(content, spec.name), spec, budget, typed=True)
    if kind == "npz":
        members = list(npy.list_npz(content, spec.name, budget.max_bytes).values())
        if len(members) != 1:
            raise RequestError(
                f"'{spec.name}' is an .npz file of {len(members)} arrays; send one of a single array", field=spec.name
            )
        budget.take_unpacked(members[0].unpacked_bytes, spec.name)
        return _convert(npy.read_member(content, members[0], spec.name), spec, budget, typed=True)
    if len(content) == 0:
        raise RequestError(f"'{spec.name}' is empty", field=spec.name)
    if not _looks_like_json(content):
        expected = "an image (PNG or JPEG), .npy nor JSON" if accepts_image(spec) else ".npy nor JSON"
        raise RequestError(f"'{spec.name}' is neither {expected}", field=spec.name)
    return _convert(parse_json_tensors(content, spec.name, (spec,), budget.max_json_bytes), spec, budget, typed=False)


def _convert(value: Any, spec: TensorSpec, budget: Budget, *, typed: bool) -> numpy.ndarray:
    """The array that `spec` asks for; of one whose sender chose the dtype, counted before it is made.

    What JSON takes is bounded by its text, and is not yet known of one that becomes lists.
    """
    if typed:
        budget.take_bytes(value.size * spec.dtype.itemsize, spec.name)
        if value.size == 0:  # the other sizes may be too large for wider numbers
            npy.reshape(numpy.empty(0, spec.dtype), value.shape, spec.name)
        return spec.convert(value, typed=typed)
    array = spec.convert(value, typed=typed)
    budget.take_bytes(array.nbytes, spec.name)
    return array


def _raise_for_names(given: Collection[str], specs: Sequence[TensorSpec], *, form: bool = False) -> None:
    """Raises `RequestError` for a name that is not an input, or an input that is missing and not optional.

    Args:
        given: the names that were sent; looking one up is fast.
        specs: the model's inputs.
        form: whether they are the names of parts.
    """
    known = {spec.name for spec in specs}
    unknown = [name for name in given if name not in known]
    if form and any(name.lstrip()[:1] in ("{", "[") for name in unknown):
        # curl -d without a Content-Type: the server parsed the JSON as a form.
        raise RequestError("the body was sent as a form; add the header 'Content-Type: application/json'", status=415)
    missing = [spec.name for spec in specs if spec.name not in given and not spec.optional]
    if missing:
        raise RequestError(f"'{missing[0]}' is missing; " + _expected(specs), field=missing[0])
    if unknown:
        name = min(unknown)
        # A name that is too long is shortened in the message, and is not the error's field.
        raise RequestError(f"'{name[:MAX_NAME]}' is not an input of this model; " + _expected(specs), field=name)


def _expected(specs: Sequence[TensorSpec]) -> str:
    return "this model takes " + ", ".join(f"'{spec.name}' ({spec.describe()})" for spec in specs)


def _media_type(part: Part) -> str:
    return part.content_type.partition(";")[0].strip()


def _looks_like_json(content: Buffer) -> bool:
    start = bytes(content[:64]).removeprefix(BOM_UTF8).lstrip()[:1]
    return start != b"" and start in b'[{"-0123456789tfnNI'


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
