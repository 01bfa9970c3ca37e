"""The two codecs: the one in Python, in this process, and the one in C++, behind a pipe."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy

from archive.packer.worker_config import encode_worker_config
from handlers.codecs.decode import DecodedRequest, decode_request
from handlers.codecs.encode import encode_error, encode_outputs
from handlers.codecs.negotiation import ResponseFormat
from handlers.codecs.request import Part, Request, Response
from handlers.codecs.shared_memory import SharedMemory
from handlers.config import ModelConfig
from handlers.errors import RequestError
from tests.native.decode_tool import DecodeTool, Refusal

MODEL = {"model_name": "a model", "model_version": "1.0-é"}

Outputs = Mapping[str, numpy.ndarray] | RequestError
Configured = Mapping[str, tuple[dict[str, Any], ModelConfig]]


class PythonCodecs:
    """handlers/codecs.

    Args:
        models: the configurations by name.
    """

    def __init__(self, models: Configured) -> None:
        self._models = {name: config for name, (_, config) in models.items()}

    def decode(self, model: str, request: Request) -> DecodedRequest | Refusal:
        """Decodes a request."""
        config = self._models[model]
        memory = SharedMemory(config.shared_memory, config.max_npz_bytes)
        limits = config.max_image_pixels, config.max_npz_bytes, memory, config.max_json_bytes
        # Arrays are views of a body, and may be written to.
        parts = {name: Part(bytearray(part.content), part.content_type) for name, part in request.items()}
        try:
            return decode_request(Request(parts, request.headers), config.inputs, *limits)
        except RequestError as error:
            return Refusal.of(error)

    def encode(self, outputs: Outputs, response_format: ResponseFormat, max_bytes: int) -> Response:
        """Encodes outputs or an error, as a model does."""
        try:
            if isinstance(outputs, RequestError):
                raise outputs
            return encode_outputs(outputs, response_format, max_bytes=max_bytes, **MODEL)
        except RequestError as error:
            return encode_error(error, response_format, **MODEL)


class NativeCodecs:
    """`opserve_decode`: a process for each model, and one that encodes.

    Args:
        program: the program.
        models: the configurations by name.
    """

    def __init__(self, program: Path, models: Configured) -> None:
        self._program, self._models = program, models
        self._folder = tempfile.TemporaryDirectory(prefix="opserve-native-")
        self._tools: dict[str, DecodeTool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tool in self._tools.values():
            with contextlib.suppress(ChildProcessError, BrokenPipeError):
                tool.__exit__(None, None, None)
        self._folder.cleanup()

    def decode(self, model: str, request: Request) -> DecodedRequest | Refusal:
        """Decodes a request.

        Raises:
            ChildProcessError: the program ended; the next call starts another one.
        """
        with self._forgotten_if_it_ends(model):
            return self._tool(model).decode(request)

    def encode(self, outputs: Outputs, response_format: ResponseFormat, max_bytes: int) -> Response:
        """Encodes outputs or an error, as a model does.

        Raises:
            ChildProcessError: as for `decode`.
        """
        with self._forgotten_if_it_ends(""):
            return self._tool("").encode(outputs, response_format, max_bytes=max_bytes, **MODEL)

    def _tool(self, model: str) -> DecodeTool:
        if model not in self._tools:
            path = None
            if model:
                path = Path(self._folder.name, f"{model}.json")
                path.write_bytes(encode_worker_config(*self._models[model]))
            self._tools[model] = DecodeTool(path, self._program)
        return self._tools[model]

    @contextlib.contextmanager
    def _forgotten_if_it_ends(self, model: str):
        try:
            yield
        except (ChildProcessError, BrokenPipeError) as error:
            del self._tools[model]
            raise ChildProcessError(str(error)) from error


def describe_request(model: str, request: Request) -> dict[str, Any]:
    """A request as JSON can hold it."""
    parts = [[name, part.content_type, bytes(part.content).hex()] for name, part in request.items()]
    return {"model": model, "parts": parts, "headers": dict(request.headers)}


def restore_request(document: Mapping[str, Any]) -> Request:
    """The request of a description."""
    parts = {name: Part(bytearray.fromhex(content), kind) for name, kind, content in document["parts"]}
    return Request(parts, document["headers"])
