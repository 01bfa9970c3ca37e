"""Attacks by connections: unfinished requests, unread responses, and more than the server can hold."""

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
from tests.attack.campaign import ANSWER, Attack, AttackRun
from tests.attack.payloads import MIB, NPZ_TYPE, document, npz
from tests.attack.target import MAX_BUSY_S
from tests.attack.wire import JSON, TIMEOUT_S, Request, Response

# Connections without a token that each declare the largest body.
UNFINISHED = 420
# How long they stay open when nothing more can be sent.
HOLD_S = 8.0
IDLE = 2000
UNREAD_BYTES = 60 * MIB  # of a response
MOST_UNREAD = 16
PIECE = bytes(MIB // 4)


def _open(attack_run: AttackRun) -> socket.socket | None:
    """Opens a non-blocking connection."""
    with contextlib.suppress(OSError):
        connection = socket.socket()
        connection.settimeout(5)
        connection.connect(attack_run.target.address)
        connection.setblocking(False)
        return connection
    return None


def _pour(attack_run: AttackRun, heads: list[bytes], each: int, seconds: float) -> None:
    """Opens a connection for every head, sends it and `each` bytes of a body, and holds all open without reading."""
    selector = selectors.DefaultSelector()
    connections = []
    try:
        for head in heads:
            connection = _open(attack_run)
            attack_run.count("none")
            if connection is None:
                continue
            connections.append(connection)
            selector.register(connection, selectors.EVENT_WRITE, [memoryview(head), each])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not attack_run.over:
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
                except OSError:  # the server has closed it, as it may
                    selector.unregister(key.fileobj)
    finally:
        for connection in connections:
            connection.close()


def unfinished_bodies(attack_run: AttackRun) -> None:
    """Bodies that never end, from clients without a token."""
    declared = int(attack_run.target.properties["max_request_size"])
    lengths = f"Content-Length: {declared}"
    head = "POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n%s\r\n\r\n"
    _pour(attack_run, [(head % lengths).encode()] * UNFINISHED, declared - 1, HOLD_S)
    # In chunks that declare their size.
    chunked = head % "Transfer-Encoding: chunked" + f"{declared:x}\r\n"
    _pour(attack_run, [chunked.encode()] * (UNFINISHED // 4), declared - 1, HOLD_S / 2)


def idle_connections(attack_run: AttackRun) -> None:
    """Connections that send nothing, half a line, or endless headers."""
    begin = b"POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\n"
    heads = [b"", b"POST /pre", begin, begin + b"X-Long: " + b"a" * 100_000, begin + b"X: 1\r\n" * 20_000]
    _pour(attack_run, [heads[number % len(heads)] for number in range(IDLE)], 0, HOLD_S / 2)


def unread_answers(attack_run: AttackRun) -> None:
    """Large responses to small requests that are not read, up to half of the direct memory."""
    zeros = numpy.zeros(UNREAD_BYTES // 4, numpy.uint8)
    body = npz({"x": zeros, "y": zeros})
    head = (
        f"POST /predictions/scaled_add HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {attack_run.target.token()}\r\n"
    )
    head += f"Content-Type: {NPZ_TYPE}\r\nAccept: {NPZ_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    direct = re.search(rf"{DIRECT_FLAG}(\d+)", attack_run.target.properties["vmargs"])
    with contextlib.ExitStack() as held:
        for _ in range(min(MOST_UNREAD, int(direct[1]) // 2 // UNREAD_BYTES)):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(TIMEOUT_S)
            try:
                connection.connect(attack_run.target.address)
                connection.sendall(head.encode() + body)
                begin = connection.recv(12, socket.MSG_PEEK)
            except OSError as error:
                begin = type(error).__name__.encode()
            attack_run.count(begin[9:].decode() or "none")
            if begin != b"HTTP/1.1 200":
                attack_run.report_violation(ANSWER, f"an unread response begins with {begin!r}")
            if attack_run.over:
                break
        time.sleep(1)


def queued_bodies(attack_run: AttackRun) -> None:
    """More of the largest bodies than the queue holds, behind a busy worker."""
    properties = attack_run.target.properties
    largest, queue = int(properties["max_request_size"]), int(properties["job_queue_size"])
    count = queue + 16
    body = document({"x": [0.0]})
    body += b" " * (largest - len(body))
    begun = threading.Barrier(2)
    # Few at a time, so that whole bodies pile up instead of pieces of all.
    few = threading.Semaphore(3)

    def occupy() -> None:
        connection = attack_run.target.connect()
        begun.wait()
        seconds = min(MAX_BUSY_S, 12)
        connection.send(Request("busy", document({"x": [float(seconds)]})), seconds + 60)
        connection.close()

    def upload(_: int) -> None:
        connection = attack_run.target.connect()
        response = connection.send(Request("busy", body, {"Content-Type": JSON}), 60, few)
        connection.close()
        attack_run.judge(Request("busy", note=f"an upload of {largest} bytes", expect=taken_or_refused), response)

    with ThreadPoolExecutor(count + 1) as pool:
        occupied = pool.submit(occupy)
        begun.wait()
        time.sleep(0.3)  # the worker has it by then; otherwise the queue is one longer
        list(pool.map(upload, range(count)))
        occupied.result()


def taken_or_refused(response: Response) -> str | None:
    """Accepts a response, a refusal or a closed connection, but not silence."""
    if response.status in (200, 400, 408, 413, 429, 503, 507) or (
        response.status == 0 and response.body != b"timed out"
    ):
        return None
    return f"status {response.status}: {response.body[:200]!r}"


ATTACKS = [
    Attack(
        "queued-bodies",
        "more of the largest bodies than the queue holds",
        ("busy",),
        action=queued_bodies,
        neighbours=("scaled_add", "karate"),
    ),
    Attack(
        "unfinished-bodies",
        "420 connections without a token that never finish the largest body",
        ("scaled_add",),
        action=unfinished_bodies,
    ),
    Attack("unread-answers", "responses of 60 MiB that are not read", ("scaled_add",), action=unread_answers),
    Attack("idle-connections", "2,000 silent connections", ("scaled_add",), action=idle_connections),
]
