"""Attacks that never finish what they begin, and those that bring more than can be held."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy

from scripts.torchserve.frontend_limits import DIRECT_FLAG
from tests.attack.campaign import ANSWER, Attack, Battle
from tests.attack.payloads import MIB, NPZ_TYPE, document, npz
from tests.attack.target import MAX_BUSY_S
from tests.attack.wire import JSON, TIMEOUT_S, Reply, Shot

# Connections without a token, each of which declares the largest body there may be.
UNFINISHED = 420
# How long they are held open when nothing more can be sent.
HOLD_S = 8.0
IDLE = 2000
UNREAD_BYTES = 60 * MIB  # of an answer
MOST_UNREAD = 16
PIECE = bytes(MIB // 4)


def _open(battle: Battle) -> socket.socket | None:
    """A connection that never blocks."""
    with contextlib.suppress(OSError):
        connection = socket.socket()
        connection.settimeout(5)
        connection.connect(battle.target.address)
        connection.setblocking(False)
        return connection
    return None


def _pour(battle: Battle, heads: list[bytes], each: int, seconds: float) -> None:
    """Opens a connection for every head, sends it and a part of a body, and keeps all open for some seconds.

    Nothing is ever read.
    """
    selector = selectors.DefaultSelector()
    connections = []
    try:
        for head in heads:
            connection = _open(battle)
            battle.count("none")
            if connection is None:
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
                except BlockingIOError:
                    pass
                except OSError:  # the server has closed it, which is its right
                    selector.unregister(key.fileobj)
    finally:
        for connection in connections:
            connection.close()


def unfinished_bodies(battle: Battle) -> None:
    """Bodies that are declared and never end, from clients without a token."""
    declared = int(battle.target.properties["max_request_size"])
    lengths = f"Content-Length: {declared}"
    head = "POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n%s\r\n\r\n"
    _pour(battle, [(head % lengths).encode()] * UNFINISHED, declared - 1, HOLD_S)
    # In pieces of a size that each says for itself.
    chunked = head % "Transfer-Encoding: chunked" + f"{declared:x}\r\n"
    _pour(battle, [chunked.encode()] * (UNFINISHED // 4), declared - 1, HOLD_S / 2)


def idle_connections(battle: Battle) -> None:
    """Connections that say nothing, half a line, or endless headers."""
    begin = b"POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\n"
    heads = [b"", b"POST /pre", begin, begin + b"X-Long: " + b"a" * 100_000, begin + b"X: 1\r\n" * 20_000]
    _pour(battle, [heads[number % len(heads)] for number in range(IDLE)], 0, HOLD_S / 2)


def unread_answers(battle: Battle) -> None:
    """Large answers to small requests, one after the other, which nobody reads: half of what Java holds of them."""
    zeros = numpy.zeros(UNREAD_BYTES // 4, numpy.uint8)
    body = npz({"x": zeros, "y": zeros})
    head = f"POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {battle.target.token()}\r\n"
    head += f"Content-Type: {NPZ_TYPE}\r\nAccept: {NPZ_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    direct = re.search(rf"{DIRECT_FLAG}(\d+)", battle.target.properties["vmargs"])
    with contextlib.ExitStack() as held:
        for _ in range(min(MOST_UNREAD, int(direct[1]) // 2 // UNREAD_BYTES)):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(TIMEOUT_S)
            try:
                connection.connect(battle.target.address)
                connection.sendall(head.encode() + body)
                begin = connection.recv(12, socket.MSG_PEEK)
            except OSError as error:
                begin = type(error).__name__.encode()
            battle.count(begin[9:].decode() or "none")
            if begin != b"HTTP/1.1 200":
                battle.complain(ANSWER, f"an answer that is not read begins with {begin!r}")
            if battle.over:
                break
        time.sleep(1)


def queued_bodies(battle: Battle) -> None:
    """The largest bodies there may be, more of them than the queue holds, behind a worker that is busy."""
    properties = battle.target.properties
    largest, queue = int(properties["max_request_size"]), int(properties["job_queue_size"])
    count = queue + 16
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
    """Answered, refused, or its connection closed for want of room; never left without an answer."""
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
        "420 connections without a token that never finish the largest body",
        ("scaled_add",),
        strike=unfinished_bodies,
    ),
    Attack("unread-answers", "answers of 60 MiB that nobody reads", ("scaled_add",), strike=unread_answers),
    Attack("idle-connections", "2,000 connections that say nothing", ("scaled_add",), strike=idle_connections),
]
