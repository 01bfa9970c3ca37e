"""Hostile and careless clients cannot push TorchServe's frontend beyond the limits that `make start` gives it.

The server is started for a machine with one gigabyte of memory, so that a few hundred megabytes fill it.
"""

import contextlib
import json
import os
import select
import selectors
import socket
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from scripts.torchserve.configuration import parse_properties, read_properties, shipped_config
from scripts.torchserve.frontend_limits import DIRECT_FLAG, MIB, ModelQueue, fit_limits
from scripts.torchserve.worker_log import LogMark
from tests.support import archives
from tests.support.torchserve import TorchServe, serving

MEMORY_MIB = 1024
MODELS = ("busy", "other")
LOG_SIZE = 20_000
# Waits, or answers with its environment or the length of the body.
HANDLER = """
import json
import os
import time


def handle(data, context):
    if data is None:
        return None
    answers = []
    for row in data:
        body = bytes(row.get("body") or b"")
        if body.startswith(b"wait for "):
            while not os.path.exists(body[9:].decode()):
                time.sleep(0.02)
        answers.append(json.dumps(dict(os.environ) if body == b"environment" else {"bytes": len(body)}))
    return answers
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """A server on a small machine, with small logs, started from a shell with secrets in it."""
    folder = tmp_path_factory.mktemp("small")
    models = [archives.make(folder, name, HANDLER) for name in MODELS]
    with pytest.MonkeyPatch.context() as shell, contextlib.ExitStack() as stack:
        shell.setenv("OPSERVE_MEMORY_MIB", str(MEMORY_MIB))
        shell.setenv("OPSERVE_PASS_ENV", "PASSED_ON")
        for name in ("AWS_SECRET_ACCESS_KEY", "SIGN_KEY", "PASSED_ON"):
            shell.setenv(name, "from the shell")
        flags = f"{parse_properties(shipped_config())['vmargs']} -Dopserve.logSize={LOG_SIZE}"
        yield stack.enter_context(serving(folder / "home", models, vmargs=flags))


def fitted(server: TorchServe) -> dict[str, str]:
    return read_properties(server.server.temp / "config.properties")


class Unharmed:
    """Checks that neither the frontend nor a worker of a server has ended, and that all models answer."""

    def __init__(self, server: TorchServe) -> None:
        self.server, self.mark = server, LogMark(server.home / "logs")
        self.frontend = server.server.require_running()

    def check(self) -> None:
        assert self.server.server.frontend() == self.frontend
        assert self.mark.ended_workers() == []
        for model in MODELS:
            assert ask(self.server, model) == 200


def ask(server: TorchServe, model: str, body: bytes = b"x", timeout: float = 60) -> int:
    """Sends a body over its own connection; returns the status."""
    headers = {
        "Authorization": f"Bearer {server.server.token('inference')}",
        "Content-Type": "application/octet-stream",
    }
    url = f"{server.server.address('inference')}/predictions/{model}"
    return requests.post(url, data=body, headers=headers, timeout=timeout).status_code


class Upload:
    """A body that is sent over its own connection at once; the answer is read later."""

    def __init__(self, server: TorchServe, model: str, body: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.server.ports()["inference_address"][1]))
        self.socket.settimeout(60)
        token = server.server.token("inference")
        head = f"POST /predictions/{model} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode())
        self.socket.sendall(body)

    def answered(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])

    def status(self) -> int:
        with self.socket:
            return int(self.socket.recv(65536).split()[1])


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_full_queues_of_the_largest_bodies_are_held(small: TorchServe, tmp_path: Path) -> None:
    limits = fitted(small)
    largest, queue = int(limits["max_request_size"]), int(limits["job_queue_size"])
    found = fit_limits(MEMORY_MIB * MIB, [ModelQueue(None, 1)] * 2, 20 * MIB, 64)
    assert (largest, queue) == (found.request, found.queue) and found.fits
    unharmed, gate, body, surplus = Unharmed(small), tmp_path / "gate", os.urandom(largest - 1000), 4
    try:
        busy = [Upload(small, model, f"wait for {gate}".encode()) for model in MODELS]
        queued = [Upload(small, model, body) for _ in range(queue + surplus) for model in MODELS]
        # The worker may take the first one only after another one has been refused.
        wait_for(lambda: sum(each.answered() for each in queued) >= len(MODELS) * (surplus - 1))
        refused = [each for each in queued if each.answered()]
        oversized = Upload(small, MODELS[0], body + b"x" * 1001)
        assert oversized.status() == 413
        assert [each.status() for each in refused] == [503] * len(refused)
    finally:
        gate.touch()
    assert [each.status() for each in busy] == [200] * len(MODELS)
    answers = Counter(each.status() for each in queued if each not in refused)
    assert set(answers) <= {200, 503} and answers[200] >= len(MODELS) * queue
    unharmed.check()


class Unfinished:
    """Connections without a token that each send a part of a declared body; one that is closed is replaced."""

    def __init__(self, port: int, count: int, declared: int, part: int) -> None:
        self.port, self.declared, self.part = port, declared, part
        self.selector = selectors.DefaultSelector()
        self.left: dict[socket.socket, int] = {}
        self.closed = 0
        for _ in range(count):
            self.connect()

    def connect(self) -> None:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(
            f"POST /predictions/other HTTP/1.1\r\nHost: x\r\nContent-Length: {self.declared}\r\n\r\n".encode()
        )
        client.setblocking(False)
        self.left[client] = self.part
        self.selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def send(self, seconds: float) -> None:
        """Sends what is left on every connection, for at most this many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ready = self.selector.select(0.1)
            if not ready:
                break
            for key, events in ready:
                client = key.fileobj
                try:
                    if events & selectors.EVENT_READ and not client.recv(65536):
                        raise ConnectionError
                    if events & selectors.EVENT_WRITE and self.left[client]:
                        self.left[client] -= client.send(b"x" * min(65536, self.left[client]))
                    if not self.left[client]:
                        self.selector.modify(client, selectors.EVENT_READ)
                except OSError:
                    self.closed += 1
                    self.selector.unregister(client)
                    client.close()
                    del self.left[client]
                    self.connect()

    def close(self) -> None:
        for client in self.left:
            client.close()
        self.selector.close()


@pytest.mark.parametrize("share", [0.2, 0.95])
def test_unfinished_bodies_leave_room_for_others(small: TorchServe, share: float) -> None:
    limits = fitted(small)
    largest = int(limits["max_request_size"])
    (direct,) = [
        int(flag.removeprefix(DIRECT_FLAG)) for flag in limits["vmargs"].split() if flag.startswith(DIRECT_FLAG)
    ]
    part = int(share * largest)
    count = 420
    assert count * part > 2 * direct
    unharmed = Unharmed(small)
    attack = Unfinished(small.server.ports()["inference_address"][1], count, largest - 1, part)
    statuses: Counter = Counter()
    try:
        deadline = time.monotonic() + 60
        # Until more was sent than may be held.
        while not attack.closed and time.monotonic() < deadline:
            attack.send(0.5)
            statuses[ask(small, "other", timeout=10)] += 1
        assert attack.closed
        for _ in range(5):
            attack.send(0.5)
            statuses[ask(small, "other", timeout=10)] += 1
        for _ in range(20):
            statuses[ask(small, "busy", timeout=10)] += 1
        held = small.server.require_running().memory_info().rss
    finally:
        attack.close()
    assert statuses[200] >= 0.9 * statuses.total(), statuses
    assert held < MEMORY_MIB * MIB
    unharmed.check()


def test_the_workflow_api_opens_nothing(small: TorchServe) -> None:
    workflow = small.model_store / "flow.war"
    with zipfile.ZipFile(workflow, "w") as archive:
        manifest = {
            "archiverVersion": "1",
            "createdOn": "1",
            "workflow": {"workflowName": "flow", "specFile": "flow.yaml"},
        }
        archive.writestr("WAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("flow.yaml", "models: {one: {url: busy.mar}}\ndag: {one: []}\n")
    before = listing(small)
    names = ("flow", "flow.war", "../model_store/flow.war", str(workflow), workflow.as_uri(), f"file:/{workflow}")
    names += ("http://127.0.0.1:9/flow.war", "", ".", "..", "%2e%2e%2fmodel_store%2fflow.war", "/dev/stdin")
    try:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
            paths = [("/workflows", {"url": name}) for name in names] + [
                ("/workflows", None),
                ("/workflows/flow", None),
            ]
            for path, query in paths:
                answer = small.management(method, path, params=query)
                if answer.status_code == 200 and method != "HEAD":
                    assert answer.json() == {"workflows": []}
                assert method == "GET" or answer.status_code in (400, 404, 405, 500), (method, path, query, answer.text)
        assert small.management("POST", "/workflows", json={"url": "flow.war"}).status_code == 404
        assert small.predict("busy").status_code == 200
        answer = small.server.request("inference", "POST", "/wfpredict/flow", data=b"x")
        assert answer.status_code == 404
        assert listing(small) == before
    finally:
        workflow.unlink()
    assert small.server.models() == list(MODELS)


def listing(server: TorchServe) -> list[Path]:
    """Returns the files that a server has unpacked, and those of its model store."""
    return sorted([*server.server.temp.glob("*/*"), *server.model_store.iterdir()])


def test_workers_see_what_they_need_of_the_shell(small: TorchServe) -> None:
    found = small.predict("busy", data=b"environment", headers={"Content-Type": "text/plain"}).json()
    assert found["PASSED_ON"] == "from the shell" and found["OMP_NUM_THREADS"]
    assert "AWS_SECRET_ACCESS_KEY" not in found and "SIGN_KEY" not in found
    frontend = small.server.require_running().environ()
    assert "AWS_SECRET_ACCESS_KEY" not in frontend and "SIGN_KEY" not in frontend
    # A crash leaves no core.
    assert psutil.Process(small.describe("busy")["workers"][0]["pid"]).rlimit(psutil.RLIMIT_CORE)[0] == 0


def test_logs_are_bounded_whatever_their_dates(small: TorchServe) -> None:
    logs = small.home / "logs"
    old = [logs / f"access_log.2020-01-{day:02}.{piece}.log.gz" for day in range(1, 20) for piece in (1, 2)]
    for path in old:
        path.write_bytes(b"x" * LOG_SIZE)
    console = (logs / "console.log").stat().st_size
    with requests.Session() as client:
        client.headers["Authorization"] = f"Bearer {small.server.token('inference')}"
        url = f"{small.server.address('inference')}/predictions/nobody"
        deadline = time.monotonic() + 60
        while any(path.exists() for path in old) and time.monotonic() < deadline:
            client.get(f"{url}?{'x' * 3000}")
    pieces = Counter(path.name.partition(".")[0] for path in logs.glob("*.log.gz"))
    # The last piece may just be being removed.
    assert pieces["access_log"] <= 6 and max(pieces.values()) <= 6, pieces
    assert not any(path.exists() for path in old)
    assert sum(path.stat().st_size for path in logs.glob("access_log*")) < 8 * LOG_SIZE
    assert (logs / "console.log").stat().st_size == console
