"""A native worker's process, and the side of TorchServe's frontend of their protocol."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from archive.repository import BUILD, ROOT

PROGRAM = BUILD / "bin" / "model_worker_socket"
NOT_BUILT = "the native worker was not built; make ext says why"
TIMEOUT_S = 60.0
END = struct.pack("!i", -1)

# An id, (name, value) of each header, and (name, media type, content) of each part.
Request = tuple[str, Sequence[tuple[str, str]], Sequence[tuple[str, str, bytes]]]


class Prediction(NamedTuple):
    """The answer to one request."""

    id: bytes
    media_type: bytes
    status: int
    phrase: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Answer(NamedTuple):
    """The answer to a message."""

    code: int
    text: bytes
    predictions: list[Prediction]


def encode_text(text: str | bytes) -> bytes:
    content = text if isinstance(text, bytes) else text.encode()
    return struct.pack("!i", len(content)) + content


def encode_load(folder: Path, model: str = "mine", *, envelope: str = "", gpu: int = -1) -> bytes:
    """The message by which a worker is told to load a model."""
    head = b"L" + encode_text(model) + encode_text(str(folder)) + struct.pack("!i", 8)
    return head + encode_text("handler") + struct.pack("!i", gpu) + encode_text(envelope) + b"\1"


def encode_batch(requests: Sequence[Request]) -> bytes:
    """A batch, as TorchServe's ModelRequestEncoder writes it."""
    message = [b"I"]
    for name, headers, parts in requests:
        message.append(encode_text(name))
        message += [encode_text(text) for header in headers for text in header] + [END]
        message += [encode_text(text) for part in parts for text in part] + [END]
    return b"".join([*message, END])


class NativeWorker:
    """A worker that listens in the folder `home`; connected unless told otherwise."""

    def __init__(self, home: Path, *, port: int = 9000, connect: bool = True, **environment: str) -> None:
        self.path = home / f".ts.sock.{port}"
        command = [str(PROGRAM), "--sock_type", "unix", "--sock_name", str(self.path), "--runtime_type", "LSP"]
        command += ["--model_dir", str(home), "--metrics_config_path", str(ROOT / "metrics.yaml")]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPSERVE_")}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=inherited | environment
        )
        assert self.process.stdout
        os.set_blocking(self.process.stdout.fileno(), False)
        self._log = b""
        self.wait_for("Torch worker started.")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        if connect:
            self.socket.connect(str(self.path))

    def log(self) -> str:
        """Everything that it has written so far."""
        assert self.process.stdout
        while chunk := self.process.stdout.read(1 << 16):
            self._log += chunk
        return self._log.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        """Waits until it has written a text."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.log():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def send(self, message: bytes) -> None:
        """Sends a message, or a part of one."""
        self.socket.sendall(message)

    def ask(self, message: bytes) -> Answer:
        """Sends a message; returns the answer."""
        self.send(message)
        code, text, predictions = self._int(), self._text(), []
        while (length := self._int()) != -1:
            head = self._read(length), self._text(), self._int(), self._text()
            headers = [(self._text(), self._text()) for _ in range(self._int())]
            predictions.append(Prediction(*head, headers, self._text()))
        return Answer(code, text, predictions)

    def load(self, folder: Path, **options: object) -> Answer:
        """Has it load an unpacked archive."""
        return self.ask(encode_load(folder, **options))  # type: ignore[arg-type]

    def wait(self) -> int:
        """Waits until it ends; returns its status."""
        return self.process.wait(TIMEOUT_S)

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        self.log()
        self.socket.close()
        assert self.process.stdout
        self.process.stdout.close()

    def _read(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            chunk = self.socket.recv(length - len(found))
            if not chunk:
                raise EOFError(self.log())
            found += chunk
        return bytes(found)

    def _int(self) -> int:
        return struct.unpack("!i", self._read(4))[0]

    def _text(self) -> bytes:
        return self._read(self._int())
