"""Speaks to `opserve_model`, a model of the native worker behind a pipe.

The frames are those that the comment at the top of extensions/native/model_tool.cpp describes.
"""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from archive.repository import ROOT
from handlers.codecs.request import Request, Response
from tests.native.frames import Reader, Writer

PROGRAM = ROOT / "build" / "bin" / "opserve_model"


class ModelTool:
    """A running program with the model of an unpacked archive.

    Args:
        folder: the archive.
        program: the program.

    Attributes:
        pid: of the process.
        description: the description of the model.
        counts: the numbers of requests, batches and model calls after the last batch.
        rejected: the numbers of refusals by status and field.
        broken: why the model can run no longer, or "".

    Raises:
        ChildProcessError: the model does not load; the message is the program's.
    """

    def __init__(self, folder: Path, program: Path = PROGRAM) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([program, str(folder)], stdin=pipe, stdout=pipe, stderr=pipe)
        self.pid = self._process.pid
        self.description: dict[str, Any] = json.loads(self._read_frame().text())
        self.counts: tuple[int, int, int] = (0, 0, 0)
        self.rejected: dict[tuple[int, str], int] = {}
        self.broken = ""

    def __enter__(self) -> ModelTool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _, log = self._process.communicate()
        if kind is None and self._process.returncode:
            raise ChildProcessError(f"opserve_model ended with {self._process.returncode}: {log.decode()}")

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """The responses to a batch."""
        frame = Writer()
        frame.many(requests, lambda request: _write_request(frame, request))
        content = b"".join(frame.pieces)
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<Q", len(content)) + content)
        self._process.stdin.flush()
        answer = self._read_frame()
        responses = answer.many(lambda: _read_response(answer))
        self.counts = (answer.number("Q"), answer.number("Q"), answer.number("Q"))
        self.rejected = dict(answer.many(lambda: ((answer.number(), answer.text()), answer.number("Q"))))
        self.broken = answer.text()
        return responses

    def _read_frame(self) -> Reader:
        assert self._process.stdout is not None and self._process.stderr is not None
        length = self._process.stdout.read(8)
        if len(length) < 8:
            raise ChildProcessError(self._process.stderr.read().decode().strip().removeprefix("error: "))
        return Reader(self._process.stdout.read(struct.unpack("<Q", length)[0]))


def _write_request(frame: Writer, request: Request) -> None:
    frame.many(request.items(), lambda part: frame.text(part[0], part[1].content_type).content(part[1].content))
    frame.many(request.headers.items(), lambda header: frame.text(*header))
    for flag in (request.explain, request.open_inference, request.grpc_infer):
        frame.number(int(flag))


def _read_response(frame: Reader) -> Response:
    status, content_type = frame.number(), frame.text()
    headers = dict(frame.many(lambda: (frame.text(), frame.text())))
    return Response(status, content_type, frame.content(), headers)
