"""Speaks to `opserve_decode`, the native worker's decoder and encoder behind a pipe.

The frames are those that the comment at the top of extensions/native/codecs/decode_tool.cpp describes.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy

from archive.repository import ROOT
from handlers.codecs.decode import DecodedRequest
from handlers.codecs.negotiation import JSON_TYPE, OIP_TYPE, ResponseFormat
from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.oip import InferRequest
from handlers.codecs.request import Request, Response
from handlers.codecs.shared_memory import Region
from handlers.errors import RequestError
from tests.native.frames import Reader, Writer

PROGRAM = ROOT / "build" / "bin" / "opserve_decode"

_TYPES = (JSON_TYPE, NPZ_TYPE, OIP_TYPE)


class Refusal(NamedTuple):
    """A `RequestError` as it left the program; its status is 0 if it was another exception."""

    status: int
    field: str | None
    message: str
    open_inference: bool

    @classmethod
    def of(cls, error: RequestError) -> Refusal:
        """The same of this process's own error."""
        return cls(error.status, error.field, error.message, error.open_inference)


class DecodeTool:
    """A running program.

    Args:
        configuration: the `model-config.json` by which it decodes; without one it encodes.
        program: the program.
    """

    def __init__(self, configuration: Path | None = None, program: Path = PROGRAM) -> None:
        arguments = ["encode"] if configuration is None else ["decode", str(configuration)]
        self._process = subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> DecodeTool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        if kind is None and self._process.returncode:
            raise ChildProcessError(f"opserve_decode ended with {self._process.returncode}")

    def decode(self, request: Request) -> DecodedRequest | Refusal:
        """What the program makes of a request."""
        frame = Writer()
        frame.many(request.items(), lambda part: frame.text(part[0], part[1].content_type).content(part[1].content))
        frame.many(request.headers.items(), lambda header: frame.text(*header))
        answer = self._ask(frame)
        if answer.number():
            return Refusal(answer.number(), answer.maybe(answer.text), answer.text(), answer.flag())
        response_format = _read_format(answer)
        return DecodedRequest(dict(answer.many(lambda: _read_array(answer))), response_format)

    def encode(
        self,
        outputs: Mapping[str, numpy.ndarray] | RequestError,
        response_format: ResponseFormat,
        *,
        model_name: str = "",
        model_version: str = "",
        max_bytes: int = 1 << 40,
    ) -> Response:
        """Its response with these outputs, which may be a refusal of them, or to an error."""
        frame = Writer()
        _write_format(frame, response_format)
        frame.text(model_name, model_version).number(max_bytes, "Q").flag(isinstance(outputs, RequestError))
        if isinstance(outputs, RequestError):
            frame.number(outputs.status).maybe(outputs.field, frame.text).text(outputs.message)
            frame.flag(outputs.open_inference)
        else:
            frame.many(outputs.items(), lambda item: _write_array(frame, *item))
        answer = self._ask(frame)
        status, content_type = answer.number(), answer.text()
        headers = dict(answer.many(lambda: (answer.text(), answer.text())))
        return Response(status, content_type, answer.content(), headers)

    def _ask(self, frame: Writer) -> Reader:
        assert self._process.stdin is not None and self._process.stdout is not None
        content = b"".join(frame.pieces)
        self._process.stdin.write(struct.pack("<Q", len(content)) + content)
        self._process.stdin.flush()
        length = self._process.stdout.read(8)
        if len(length) < 8:
            raise ChildProcessError(f"opserve_decode ended with {self._process.wait()}")
        return Reader(self._process.stdout.read(struct.unpack("<Q", length)[0]))


def _write_format(frame: Writer, response_format: ResponseFormat) -> None:
    frame.number(_TYPES.index(response_format.content_type))
    frame.flag(response_format.text_errors).flag(response_format.grpc_infer)
    asked = response_format.infer_request
    frame.flag(asked is not None)
    if asked is None:
        return
    frame.maybe(asked.id, frame.text).flag(asked.binary)
    frame.maybe(asked.outputs, lambda items: frame.many(items, lambda item: frame.text(item[0]).flag(item[1])))
    frame.many(
        asked.regions.items(),
        lambda item: frame.text(item[0], item[1].key).number(item[1].offset, "Q").number(item[1].size, "Q"),
    )


def _read_format(frame: Reader) -> ResponseFormat:
    content_type, text_errors, grpc_infer = _TYPES[frame.number()], frame.flag(), frame.flag()
    asked = None
    if frame.flag():
        identifier, binary = frame.maybe(frame.text), frame.flag()
        outputs = tuple(frame.many(lambda: (frame.text(), frame.flag()))) if frame.flag() else None
        regions = dict(frame.many(lambda: (frame.text(), Region(frame.text(), frame.number("Q"), frame.number("Q")))))
        asked = InferRequest(identifier, outputs, binary, regions)
    return ResponseFormat(content_type, asked, text_errors, grpc_infer)


def _write_array(frame: Writer, name: str, array: numpy.ndarray) -> None:
    frame.text(name, array.dtype.name).many(array.shape, lambda size: frame.number(size, "Q"))
    frame.content(array.tobytes())


def _read_array(frame: Reader) -> tuple[str, numpy.ndarray]:
    name, dtype = frame.text(), numpy.dtype(frame.text())
    shape = frame.many(lambda: frame.number("Q"))
    return name, numpy.frombuffer(frame.content(), dtype).reshape(shape)
