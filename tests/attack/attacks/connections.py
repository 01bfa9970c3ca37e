"""Attacks that never finish what they begin, and those that bring more than can be held."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy

from tests.attack.campaign import Attack, Battle
from tests.attack.payloads import MIB, NPZ_TYPE, document, npz
from tests.attack.target import MAX_BUSY_S
from tests.attack.wire import JSON, Reply, Shot

# Connections without a token, and what each sends of the body that it declares.
UNFINISHED = 420
DECLARED = 60 * MIB
SENT = 8 * MIB
# How long they are held open when nothing more can be sent.
HOLD_S = 8.0
IDLE = 2000
UNREAD = 80
PIECE = bytes(MIB // 4)


def _open(battle: Battle, receive: int = 0) -> socket.socket | None:
    """A connection that never blocks, with a buffer of `receive` bytes for what comes back, if that is given."""
    with contextlib.suppress(OSError):
        connection = socket.socket()
        connection.settimeout(5)
        if receive:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        connection.connect(battle.target.address)
        connection.setblocking(False)
        return connection
    return None


def _pour(battle: Battle, heads: list[bytes], each: int, seconds: float, receive: int = 0) -> None:
    """Open a connection for every head, send it and so many bytes of a body, and hold all open for some seconds.

    Nothing is ever read.
    """
    selector = selectors.DefaultSelector()
    connections = []
    try:
        for head in heads:
            connection = _open(battle, receive)
            if connection is None:
                battle.count("none")
                continue
            connections.append(connection)
            selector.register(connection, selectors.EVENT_WRITE, [memoryview(head), each])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not battle.over:
            if not selector.get_map():
                time.sleep(0.1)
                continue
            for key, _ in selector.select(0.1):
                head, left = key.data
                try:
                    if head:
                        key.data[0] = head[key.fileobj.send(head) :]
                    elif left > 0:
                        key.data[1] -= key.fileobj.send(PIECE[: min(left, len(PIECE))])
                    else:
                        selector.unregister(key.fileobj)
                        battle.count("none")
                except BlockingIOError:
                    pass
                except OSError:  # the server has closed it, which is its right
                    selector.unregister(key.fileobj)
                    battle.count("none")
    finally:
        for connection in connections:
            connection.close()


def unfinished_bodies(battle: Battle) -> None:
    """Bodies that are declared and never end, from nobody who has a token."""
    lengths = f"Content-Length: {DECLARED}"
    head = "POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n%s\r\n\r\n"
    _pour(battle, [(head % lengths).encode()] * UNFINISHED, SENT, HOLD_S)
    # In pieces of a size that each says for itself.
    chunked = head % "Transfer-Encoding: chunked" + f"{DECLARED:x}\r\n"
    _pour(battle, [chunked.encode()] * (UNFINISHED // 4), SENT, HOLD_S / 2)


def idle_connections(battle: Battle) -> None:
    """Connections that say nothing, half a line, or endless headers."""
    begin = b"POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\n"
    heads = [b"", b"POST /pre", begin, begin + b"X-Long: " + b"a" * 100_000, begin + b"X: 1\r\n" * 20_000]
    _pour(battle, [heads[number % len(heads)] for number in range(IDLE)], 0, HOLD_S / 2)


def unread_answers(battle: Battle) -> None:
    """Large answers to small requests, which nobody reads."""
    zeros = numpy.zeros(6 * MIB, numpy.uint8)
    body = npz({"x": zeros, "y": zeros})
    head = f"POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {battle.target.token()}\r\n"
    head += f"Content-Type: {NPZ_TYPE}\r\nAccept: {NPZ_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    _pour(battle, [head.encode() + body] * UNREAD, 0, 1.5 * HOLD_S, receive=4096)


def queued_bodies(battle: Battle) -> None:
    """The largest bodies there may be, more of them than the queue holds, behind a worker that is busy."""
    largest = int(battle.target.properties.get("max_request_size", 6553500))
    queue = int(battle.target.properties.get("job_queue_size", 100))
    count = min(queue + 16, 64)
    body = document({"x": [0.0]})
    body += b" " * (largest - len(body))
    begun = threading.Barrier(2)
    # So that whole bodies pile up instead of pieces of all of them.
    few = threading.Semaphore(3)

    def occupy() -> None:
        connection = battle.target.connect()
        begun.wait()
        seconds = min(MAX_BUSY_S, 12)
        connection.send(Shot("busy", document({"x": [float(seconds)]})), seconds + 60)
        connection.close()

    def upload(_: int) -> None:
        connection = battle.target.connect()
        reply = connection.send(Shot("busy", body, {"Content-Type": JSON}), 60, few)
        connection.close()
        battle.judge(Shot("busy", note=f"an upload of {largest} bytes", expect=taken_or_refused), reply)

    with ThreadPoolExecutor(count + 1) as pool:
        occupied = pool.submit(occupy)
        begun.wait()
        time.sleep(0.3)  # the worker has it by then; if not, the queue is one longer
        list(pool.map(upload, range(count)))
        occupied.result()


def taken_or_refused(reply: Reply) -> str | None:
    """Answered, refused, or its connection closed for want of room; not left without a word."""
    if reply.status in (200, 400, 408, 413, 429, 503, 507) or (reply.status == 0 and reply.body != b"timed out"):
        return None
    return f"status {reply.status}: {reply.body[:200]!r}"


ATTACKS = [
    Attack(
        "queued-bodies",
        "more of the largest bodies than the queue holds",
        ("busy",),
        strike=queued_bodies,
        neighbours=("scaled_add", "karate"),
    ),
    Attack(
        "unfinished-bodies",
        "420 connections without a token that declare 60 MiB each",
        ("scaled_add",),
        strike=unfinished_bodies,
    ),
    Attack("unread-answers", "80 answers of 24 MiB that nobody reads", ("scaled_add",), strike=unread_answers),
    Attack("idle-connections", "2,000 connections that say nothing", ("scaled_add",), strike=idle_connections),
]
