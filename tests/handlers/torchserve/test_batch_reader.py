"""A batch is read as TorchServe's own worker reads it, whatever it contains and however it arrives."""

import socket
import struct
import subprocess
import sys
import textwrap
import threading

import pytest
from ts.protocol import otf_message_handler

from archive.repository import ROOT
from handlers.torchserve.batch_reader import BatchReader, install_batch_reader, read_batch
from handlers.torchserve.read_ahead import BUFFER_BYTES, read_ahead

HEADERS = [("Host", "127.0.0.1:8080"), ("Content-Type", "application/json"), ("X-Empty", ""), ("X-Grüße", "日本")]
BODY = ("body", "application/json", b'{"x": [1, 2]}')
REQUESTS = {
    "none": [],
    "one": [("a1", HEADERS, [BODY])],
    "no headers, no parameters": [("a1", [], [])],
    "parts": [("a1", HEADERS, [("image", "image/png", b"\x89PNG\0\xff"), ("größe", "", b"")])],
    "eight": [(f"id-{number}", HEADERS[:number], [BODY]) for number in range(8)],
    "larger than the buffer": [("a1", HEADERS, [("body", "x", bytes(5 * BUFFER_BYTES + 3))]), ("b2", [], [BODY])],
}


def text(value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return struct.pack("!i", len(content)) + content


def message(requests: list) -> bytes:
    """The bytes that the frontend writes for a batch, after the command."""
    end = struct.pack("!i", -1)
    written = b""
    for identity, headers, parameters in requests:
        written += text(identity) + b"".join(text(name) + text(value) for name, value in headers) + end
        written += b"".join(text(name) + text(kind) + text(value) for name, kind, value in parameters) + end
    return written + end


def sent(writer: socket.socket, content: bytes) -> threading.Thread:
    """Begins to send; a socket holds less than a large body."""
    thread = threading.Thread(target=writer.sendall, args=(content,))
    thread.start()
    return thread


@pytest.mark.parametrize("name", REQUESTS)
def test_it_reads_what_torchserve_reads(pair, monkeypatch, name):
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", "false")
    writer, reader = pair
    content = message(REQUESTS[name])
    thread = sent(writer, content + b"next" + content)
    theirs = otf_message_handler._retrieve_inference_msg(reader)
    assert reader.recv(4) == b"next"
    ours = read_batch(read_ahead(reader))
    thread.join()
    assert ours == theirs and len(ours) == len(REQUESTS[name])
    for request, expected in zip(ours, theirs, strict=True):
        for parameter, other in zip(request["parameters"], expected["parameters"], strict=True):
            assert {key: type(value) for key, value in parameter.items()} == {
                key: type(value) for key, value in other.items()
            }


def test_nothing_after_a_batch_is_consumed(pair):
    writer, reader = pair
    stream = read_ahead(reader)
    writer.sendall(message(REQUESTS["eight"]) + b"I" + message(REQUESTS["one"]))
    assert len(read_batch(stream)) == 8
    assert reader.recv(1) == b"I"
    assert [request["requestId"] for request in read_batch(stream)] == [b"a1"]


@pytest.mark.parametrize("cut", range(0, len(message(REQUESTS["one"])), 3))
def test_a_frontend_that_is_gone_ends_the_worker(pair, cut):
    writer, reader = pair
    writer.sendall(message(REQUESTS["one"])[:cut])
    writer.close()
    with pytest.raises(SystemExit) as end:
        read_batch(read_ahead(reader))
    assert end.value.code == 0


@pytest.mark.parametrize(("decodes", "replaced"), [("false", True), ("true", False), (None, False)])
def test_a_worker_that_parses_json_itself_keeps_its_own_reader(pair, monkeypatch, decodes, replaced):
    own = otf_message_handler._retrieve_inference_msg
    monkeypatch.setattr(otf_message_handler, "_retrieve_inference_msg", own)  # put back afterwards
    if decodes is None:
        monkeypatch.delenv("TS_DECODE_INPUT_REQUEST", raising=False)
    else:
        monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", decodes)
    writer, reader = pair
    install_batch_reader(reader)
    assert (otf_message_handler._retrieve_inference_msg is not own) == replaced
    writer.sendall(b"I" + message(REQUESTS["parts"]))
    command, batch = otf_message_handler.retrieve_msg(reader)
    assert command == b"I" and [part["name"] for part in batch[0]["parameters"]] == ["image", "größe"]


def test_a_batch_is_released_before_the_next_one_is_read(pair):
    """TorchServe's worker holds the last batch until it has read the next one."""
    writer, reader = pair
    batches = BatchReader(read_ahead(reader))
    writer.sendall(message(REQUESTS["eight"]) + message(REQUESTS["one"]))
    held = batches.read()
    body = held[0]["parameters"][0]["value"]
    batches.release()
    assert [request["parameters"] for request in held] == [()] * 8
    assert bytes(body) == BODY[2]  # references stay valid
    second = batches.read()
    assert bytes(second[0]["parameters"][0]["value"]) == BODY[2]


def test_a_body_that_does_not_fit_into_memory_costs_only_itself():
    """In a process whose address space ends 100 MB above its present size; the body has 200."""
    code = """
        import io, resource, struct
        from pathlib import Path
        from handlers.torchserve.batch_reader import LostValue, read_batch
        def text(value): return struct.pack("!i", len(value)) + value
        class Endless(io.RawIOBase):
            def __init__(self, *pieces): self.pieces = list(pieces)
            def readable(self): return True
            def readinto(self, buffer):
                if not self.pieces: return 0
                piece = self.pieces[0]
                if isinstance(piece, int):
                    count = min(piece, len(buffer))
                    buffer[:count] = bytes(count)
                    self.pieces[0] -= count
                    if not self.pieces[0]: self.pieces.pop(0)
                    return count
                count = min(len(piece), len(buffer))
                buffer[:count] = piece[:count]
                self.pieces[0] = piece[count:]
                if not self.pieces[0]: self.pieces.pop(0)
                return count
        end = struct.pack("!i", -1)
        small = text(b"id") + end + text(b"body") + text(b"") + text(b"[1]") + end
        head = text(b"id") + end + text(b"body") + text(b"") + struct.pack("!i", 200_000_000)
        stream = io.BufferedReader(Endless(small + head, 200_000_000, end + small + end))
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + 100_000_000,) * 2)
        values = [request["parameters"][0]["value"] for request in read_batch(stream)]
        print([(type(value).__name__, len(value)) for value in values])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[('bytearray', 3), ('LostValue', 0), ('bytearray', 3)]\n", done.stdout + done.stderr
