"""The two codecs: the one in Python, in this process, and the one in C++, behind a pipe."""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy

from archive.packer.worker_config import encode_worker_config
from handlers.codecs.decode import decode_request
from handlers.codecs.encode import encode_error, encode_outputs
from handlers.codecs.negotiation import JSON_TYPE, OIP_TYPE, ResponseFormat
from handlers.codecs.npy import NPZ_TYPE
from handlers.codecs.request import Part, Request
from handlers.codecs.shared_memory import SharedMemory
from handlers.config import ModelConfig
from handlers.errors import RequestError
from tests.native.outcomes import Array, Decoded, Format, Refused, Response, asked

TYPES = (JSON_TYPE, NPZ_TYPE, OIP_TYPE)
NAME, VERSION = "a model", "1.0-é"

Item = TypeVar("Item")
Configured = Mapping[str, tuple[dict[str, Any], ModelConfig]]


def copied(request: Request) -> Request:
    """A request with bytes of its own: arrays are views of them, and may be written to."""
    parts = {name: Part(bytearray(part.content), part.content_type) for name, part in request.items()}
    return Request(parts, request.headers)


class PythonCodecs:
    """handlers/codecs.

    Args:
        models: the configurations by name.
    """

    def __init__(self, models: Configured) -> None:
        self._models = {name: config for name, (_, config) in models.items()}

    def decode(self, model: str, request: Request) -> Decoded | Refused:
        """Decodes a request."""
        config = self._models[model]
        memory = SharedMemory(config.shared_memory, config.max_npz_bytes)
        try:
            inputs, wanted = decode_request(
                copied(request),
                config.inputs,
                config.max_image_pixels,
                config.max_npz_bytes,
                memory,
                config.max_json_bytes,
            )
        except RequestError as error:
            return Refused(error.status, error.field, error.message, error.open_inference)
        chosen = Format(TYPES.index(wanted.content_type), wanted.text_errors, wanted.grpc_infer, wanted.infer_request)
        return Decoded(chosen, tuple(Array.of(name, array) for name, array in inputs.items()))

    def encode(self, outputs: Sequence[Array] | Refused, wanted: Format, max_bytes: int) -> Response:
        """Encodes outputs or an error, as a model does."""
        names = {"model_name": NAME, "model_version": VERSION}
        response_format = ResponseFormat(TYPES[wanted.type], wanted.asked, wanted.text_errors, wanted.grpc_infer)
        try:
            if isinstance(outputs, Refused):
                raise as_error(outputs)
            arrays = {
                each.name: numpy.frombuffer(each.content, each.dtype).reshape(each.shape)
                if each.content
                else numpy.empty(each.shape, each.dtype)
                for each in outputs
            }
            made = encode_outputs(arrays, response_format, max_bytes=max_bytes, **names)
        except RequestError as error:
            made = encode_error(error, response_format, **names)
        return Response(made.status, made.content_type, tuple(made.headers.items()), bytes(made.body))


def as_error(refused: Refused) -> RequestError:
    """The error again."""
    error = RequestError(refused.message, field=refused.field, status=refused.status)
    error.open_inference = refused.open_inference
    return error


class CrashedError(Exception):
    """The program ended; the message has its last words."""


class NativeCodecs:
    """`opserve_decode`: a process for each model, and one that encodes. The protocol is described in its source.

    Args:
        program: the program.
        models: the configurations by name.
    """

    def __init__(self, program: Path, models: Configured) -> None:
        self._program, self._models = program, models
        self._folder = tempfile.TemporaryDirectory(prefix="opserve-native-")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()
        self._folder.cleanup()

    def decode(self, model: str, request: Request) -> Decoded | Refused:
        """Decodes a request."""
        frame = Frame()
        frame.list(request.items(), lambda part: frame.text(part[0]).text(part[1].content_type).bytes(part[1].content))
        frame.list(request.headers.items(), lambda header: frame.text(header[0]).text(header[1]))
        answer = self._call(model, frame)
        if answer.number("I"):
            return answer.refused()
        return Decoded(answer.format(), tuple(answer.list(answer.array)))

    def encode(self, outputs: Sequence[Array] | Refused, wanted: Format, max_bytes: int) -> Response:
        """Encodes outputs or an error, as a model does."""
        frame = Frame()
        frame.format(wanted).text(NAME).text(VERSION).number("Q", max_bytes)
        if isinstance(outputs, Refused):
            frame.number("I", 1).refused(outputs)
        else:
            frame.number("I", 0).list(outputs, frame.array)
        answer = self._call("", frame)
        status, content_type = answer.number("I"), answer.text()
        headers = answer.list(lambda: (answer.text(), answer.text()))
        return Response(status, content_type, tuple(headers), answer.bytes())

    def _call(self, model: str, frame: Frame) -> Answer:
        process = self._processes.get(model)
        if process is None:
            process = self._processes[model] = self._start(model)
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(struct.pack("<Q", len(frame.content)) + frame.content)
            process.stdin.flush()
            head = process.stdout.read(8)
            if len(head) == 8:
                (length,) = struct.unpack("<Q", head)
                content = process.stdout.read(length)
                if len(content) == length:
                    return Answer(content)
        except BrokenPipeError:
            pass
        del self._processes[model]
        _, words = process.communicate()
        raise CrashedError(f"opserve_decode ended with {process.returncode}: {words.decode(errors='replace')[-3000:]}")

    def _start(self, model: str) -> subprocess.Popen[bytes]:
        command = [str(self._program)]
        if model:
            path = Path(self._folder.name, f"{model}.json")
            path.write_bytes(encode_worker_config(*self._models[model]))
            command += ["decode", str(path)]
        else:
            command += ["encode"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


class Frame:
    """A frame to the program; each method appends a value and returns the frame."""

    def __init__(self) -> None:
        self.content = bytearray()

    def number(self, kind: str, value: int) -> Frame:
        """A number of a kind of the module `struct`."""
        self.content += struct.pack(f"<{kind}", value)
        return self

    def bytes(self, value: bytes | bytearray | memoryview) -> Frame:
        """Bytes."""
        self.number("Q", len(value)).content += value
        return self

    def text(self, value: str) -> Frame:
        """A text in UTF-8."""
        encoded = value.encode("utf-8", "surrogatepass")
        self.number("I", len(encoded)).content += encoded
        return self

    def list(self, items: Any, append: Callable[[Any], object]) -> Frame:
        """A list."""
        self.number("I", len(items))
        for item in items:
            append(item)
        return self

    def maybe(self, value: Any, append: Callable[[Any], object]) -> Frame:
        """A value or none."""
        return self.list([] if value is None else [value], append)

    def array(self, array: Array) -> Frame:
        """A tensor."""
        self.text(array.name).text(array.dtype)
        return self.list(array.shape, lambda size: self.number("Q", size)).bytes(array.content)

    def refused(self, refused: Refused) -> Frame:
        """An error."""
        self.number("I", refused.status).maybe(refused.field, self.text)
        return self.text(refused.message).number("I", refused.open_inference)

    def format(self, wanted: Format) -> Frame:
        """How to answer."""
        self.number("I", wanted.type).number("I", wanted.text_errors).number("I", wanted.grpc_infer)
        return self.maybe(wanted.asked, self._asked)

    def _asked(self, request: Any) -> None:
        self.maybe(request.id, self.text).number("I", request.binary)
        self.maybe(
            request.outputs, lambda outputs: self.list(outputs, lambda each: self.text(each[0]).number("I", each[1]))
        )
        self.list(
            request.regions.items(),
            lambda each: self.text(each[0]).text(each[1].key).number("Q", each[1].offset).number("Q", each[1].size),
        )


class Answer:
    """A frame from the program; each method reads the next value."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = memoryview(content), 0

    def number(self, kind: str) -> int:
        """A number of a kind of the module `struct`."""
        (value,) = struct.unpack(f"<{kind}", self._take(struct.calcsize(f"<{kind}")))
        return value

    def bytes(self) -> bytes:
        """Bytes."""
        return bytes(self._take(self.number("Q")))

    def text(self) -> str:
        """A text in UTF-8."""
        return bytes(self._take(self.number("I"))).decode("utf-8", "surrogateescape")

    def list(self, read: Callable[[], Item]) -> list[Item]:
        """A list."""
        return [read() for _ in range(self.number("I"))]

    def maybe(self, read: Callable[[], Item]) -> Item | None:
        """A value or none."""
        return read() if self.number("I") else None

    def flag(self) -> bool:
        """Whether something is so."""
        return bool(self.number("I"))

    def array(self) -> Array:
        """A tensor."""
        name, dtype = self.text(), self.text()
        return Array(name, dtype, tuple(self.list(lambda: self.number("Q"))), self.bytes())

    def refused(self) -> Refused:
        """An error."""
        return Refused(self.number("I"), self.maybe(self.text), self.text(), self.flag())

    def format(self) -> Format:
        """How to answer."""
        return Format(self.number("I"), self.flag(), self.flag(), self.maybe(self._asked))

    def _asked(self) -> Any:
        identifier, binary = self.maybe(self.text), self.flag()
        outputs = self.maybe(lambda: self.list(lambda: (self.text(), self.flag())))
        regions = self.list(lambda: (self.text(), (self.text(), self.number("Q"), self.number("Q"))))
        return asked(identifier, binary, outputs, dict(regions))

    def _take(self, length: int) -> memoryview:
        taken = self._content[self._at : self._at + length]
        if len(taken) < length:
            raise ValueError("a frame of opserve_decode is too short")
        self._at += length
        return taken


def describe_request(model: str, request: Request) -> dict[str, Any]:
    """A request as JSON can hold it."""
    parts = [[name, part.content_type, bytes(part.content).hex()] for name, part in request.items()]
    return {"model": model, "parts": parts, "headers": dict(request.headers)}


def read_request(path: Path) -> tuple[dict[str, Any], Request]:
    """The request in a file, and what else the file holds."""
    document = json.loads(path.read_text())
    parts = {name: Part(bytearray.fromhex(content), kind) for name, kind, content in document["parts"]}
    return document, Request(parts, document["headers"])
