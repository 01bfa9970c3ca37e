"""A model that no longer loads: its requests are answered, it is tried again and again, and it is reported."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.packer.pack import RETRY_SECONDS
from archive.repository import ROOT
from scripts.torchserve import processes, recovery, workers
from tests.support.torchserve import TIMEOUT_S, TorchServe, until

pytestmark = [pytest.mark.server, pytest.mark.slow]
MODEL = "scaled_add"
REQUEST = {"x": [1.0, 2.0], "y": [3.0, 4.0]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: dict[str, Path]) -> Iterator[TorchServe]:
    archives = [ROOT / "model_store" / f"{MODEL}.mar", store["loads_once"]]
    torchserve = TorchServe(tmp_path_factory.mktemp("recovery") / "home", archives)
    try:
        started = torchserve.start()
        assert started.returncode == 0, started.stderr
        yield torchserve
    finally:
        torchserve.stop()


def unpacked(server: TorchServe) -> Path:
    (artifact,) = (server.server.temp / "models").glob(f"*/{MODEL}.pt")
    return artifact


def kill_worker(server: TorchServe, model: str) -> None:
    pid = server.describe(model)["workers"][0]["pid"]
    its = processes.workers(server.home, server.server.temp, [server.server.require_running()])
    (worker,) = [process for process in its if process.pid == pid]
    worker.kill()
    # A request sent before TorchServe has noticed would be answered as one whose worker died.
    until(lambda: server.describe(model)["workers"][0]["status"] != "READY", "the worker's end")


def test_requests_end_and_a_mended_model_is_served_again_by_itself(server: TorchServe) -> None:
    artifact = unpacked(server)
    assert server.describe(MODEL)["maxRetryTimeoutInSec"] == RETRY_SECONDS
    away = artifact.rename(server.home / "away.pt")
    ended: list[tuple[int, str]] = []

    def ask() -> None:
        answer = server.predict(MODEL, json=REQUEST)
        ended.append((answer.status_code, answer.text))

    try:
        kill_worker(server, MODEL)
        # These are queued before TorchServe knows that the model will not load.
        asking = [threading.Thread(target=ask) for _ in range(5)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), "a request hangs"
        # TorchServe itself answers those that its thread had taken from the queue when the worker died.
        for status, text in ended:
            assert status == 503 or (status, "Worker died." in text) == (500, True), ended
        until(lambda: server.predict(MODEL, json=REQUEST).status_code == 503, "a stand-in")
        answer = server.predict(MODEL, json=REQUEST)
        while answer.status_code != 503:  # it is being tried at this moment
            answer = server.predict(MODEL, json=REQUEST)
        assert "could not be loaded" in answer.json()["error"]["message"]
        assert str(artifact) not in answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        until(lambda: f"{MODEL} 1.0 does not load: ModelError: " in server.script("status").stdout, "the reason")
        shown = server.script("status").stdout
        assert f"`make scale MODEL={MODEL} WORKERS=1`" in shown
        row = next(line.split() for line in shown.splitlines() if line.startswith(f"{MODEL} "))
        assert row[2] == "0/1"
    finally:
        away.rename(artifact)
    until(lambda: server.predict(MODEL, json=REQUEST).status_code == 200, "an answer of the model")
    until(lambda: "does not load" not in server.script("status").stdout, "the end of the report")
    assert "does not load" not in server.script("status").stdout
    assert not list(artifact.parent.parent.glob(".*.load"))


def test_revived_workers_start_at_once_and_no_old_one_is_left(server: TorchServe) -> None:
    artifact = unpacked(server)
    away = artifact.rename(server.home / "away.pt")
    try:
        kill_worker(server, MODEL)
        until(lambda: workers.stand_in_errors(server.server, server.describe(MODEL)), "a stand-in")
    finally:
        away.rename(artifact)
    recovery.revive(server.server, MODEL, 2)

    def both_ready() -> bool:
        described = server.describe(MODEL)
        states = [worker["status"] for worker in described["workers"]]
        return states == ["READY"] * 2 and not workers.stand_in_errors(server.server, described)

    until(both_ready, "two workers")
    its = processes.workers(server.home, server.server.temp, [server.server.require_running()])
    assert len(its) == 2 + len(server.describe("loads_once")["workers"])
    assert server.predict(MODEL, json=REQUEST).status_code == 200


def test_a_model_with_any_handler_is_revived_and_its_error_is_shown(server: TorchServe) -> None:
    """Also one that opserve did not pack: TorchServe itself gives up on it, and its requests wait."""
    kill_worker(server, "loads_once")
    until(lambda: workers.count_ended_workers(server.describe("loads_once")) == 1, "a worker that is given up")
    until(lambda: "FileExistsError" in server.script("status").stdout, "the last line of the traceback")
    assert "`make scale MODEL=loads_once WORKERS=1`" in server.script("status").stdout
    for mark in (server.server.temp / "models").glob("*/loaded"):
        mark.unlink()
    revived = server.script("torchserve.recovery")
    while revived.returncode == 0:  # TorchServe is trying it at this moment
        revived = server.script("torchserve.recovery")
    assert revived.stdout == "loads_once 1.0 does not load; its workers are being restarted\n"
    until(lambda: server.predict("loads_once", json={}).status_code == 200, "an answer")
