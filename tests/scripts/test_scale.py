"""`make scale` on a running server, and its effect on other clients."""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from archive.errors import OpserveError
from scripts import deploy, remove, scale
from scripts.torchserve.workers import scaling_path
from tests.support import archives
from tests.support.torchserve import TIMEOUT_S, TorchServe, until

pytestmark = pytest.mark.server


def test_scale_changes_the_number_of_workers(running: TorchServe) -> None:
    try:
        scaled = running.script("scale", "echo", "2")
        assert scaled.returncode == 0, scaled.stderr
        assert [w["status"] for w in running.describe("echo")["workers"]] == ["READY", "READY"]
        line = next(text for text in scaled.stdout.splitlines() if text.startswith("curl"))
        pasted = subprocess.run(
            ["bash", "-c", line.replace("_worker=2", "_worker=1")],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "synchronous=false" in line and "Processing worker updates" in pasted.stdout
        until(lambda: len(running.describe("echo")["workers"]) == 1, "the worker's end")
    finally:
        running.script("scale", "echo", "1")


def test_scale_reports_why_a_new_worker_died(running: TorchServe) -> None:
    try:
        scaled = running.script("scale", "loads_once", "2")
        assert scaled.returncode == 1
        assert "1 of 2 workers ready" in scaled.stderr
        assert "FileExistsError" in scaled.stderr
    finally:
        running.script("scale", "loads_once", "1")


@pytest.mark.parametrize("workers", ["-1", "1.5", "many", "9999", ""])
def test_a_number_of_workers_is_a_small_whole_number(running: TorchServe, workers: str) -> None:
    failed = running.script("scale", "--", "echo", workers)
    assert failed.returncode != 0
    assert len(running.describe("echo")["workers"]) == 1


@pytest.mark.parametrize("name", ["../../x", "a b", "a\nb", "a?b=c", "a/b", "..", "ä", ""])
def test_a_name_that_could_be_another_path_of_the_api_is_refused(running: TorchServe, name: str) -> None:
    home = ["--home", str(running.home), "--"]
    for main, words in ((scale.main, [name, "1"]), (deploy.main, [name, "2.0"]), (remove.main, [name])):
        with pytest.raises(OpserveError, match=r"^no model '.*' is served; there are: echo, "):
            main([*home, *words])
    with pytest.raises(OpserveError, match=r"^'.*' cannot name a version: "):
        deploy.main([*home, "echo", name])


def test_a_model_whose_workers_were_given_up_is_revived(tmp_path: Path) -> None:
    switch = tmp_path / "full"
    handler = archives.LOADS_UNLESS.format(switch=str(switch))
    config = f"{archives.CONFIG}maxRetryTimeoutInSec: 1\n"
    server = TorchServe(tmp_path / "home", [archives.make(tmp_path, "mended", handler, config=config)])
    try:
        assert server.start().returncode == 0
        switch.touch()
        psutil.Process(server.describe("mended")["workers"][0]["pid"]).kill()
        log = server.home / "logs" / "ts_log.log"
        # This archive allows one second of retries after the worker's end.
        until(lambda: "Auto recovery failed again" in log.read_text(), "the worker being given up")
        failed = server.script("scale", "mended", "1")
        assert failed.returncode == 1
        assert "mended has 0 of 1 workers ready; a new one died while loading:\n" in failed.stderr
        assert "RuntimeError: the disk is full" in failed.stderr
        switch.unlink()
        mended = server.script("scale", "mended", "1")
        assert mended.returncode == 0, mended.stderr
        assert server.predict("mended", data=b"{}").status_code == 200
    finally:
        server.stop()


CONNECTIONS = 16


class Clients:
    """Connections to a model, each of which sends a request as soon as the last one is answered.

    Attributes:
        longest: the longest wait of any of them for an answer, in seconds.
    """

    def __init__(self, server: TorchServe, model: str) -> None:
        self.longest = 0.0
        self._url = f"{server.server.address('inference')}/predictions/{model}"
        self._headers = {"Authorization": f"Bearer {server.server.token('inference')}"}
        self._answered = [0] * CONNECTIONS
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(CONNECTIONS)]

    def _ask(self, number: int) -> None:
        with requests.Session() as session:
            while not self._ended.wait(0.02):
                asked = time.monotonic()
                session.post(self._url, json={"values": [1]}, headers=self._headers, timeout=TIMEOUT_S)
                self.longest = max(self.longest, time.monotonic() - asked)
                self._answered[number] += 1

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        until(lambda: all(self._answered), "an answer to each connection")
        self.longest = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def longest_wait(server: TorchServe, scale_up: Callable[[], object]) -> float:
    """Returns the longest wait of the clients of `echo` while `loads_slowly` gets a second worker."""
    try:
        with Clients(server, "echo") as clients:
            scale_up()
            assert len(server.describe("loads_slowly")["workers"]) == 2
        return clients.longest
    finally:
        server.script("scale", "loads_slowly", "1")


def test_the_clients_of_another_model_do_not_wait(running: TorchServe) -> None:
    """The control is TorchServe's synchronous call: some connections wait while the worker loads, 4 s."""
    path = scaling_path("loads_slowly", 2, 2).replace("synchronous=false", "synchronous=true")
    control = longest_wait(running, lambda: running.management("PUT", path))
    measured = longest_wait(running, lambda: running.script("scale", "loads_slowly", "2"))
    assert control > 3 > 1.5 > measured, (control, measured)
