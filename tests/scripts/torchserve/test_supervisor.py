"""A server that ends without having been asked to is started again, as it was."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve import processes, supervision
from scripts.torchserve.arguments import StartOptions
from scripts.torchserve.supervisor import LOG_BYTES, Supervisor
from tests.support.torchserve import TIMEOUT_S, TorchServe, nothing_left, until

pytestmark = [pytest.mark.server, pytest.mark.slow]
MIB = 1 << 20


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, store: dict[str, Path]) -> Iterator[TorchServe]:
    """A server that these tests kill one after the other; it was started quiet and with the model API."""
    torchserve = TorchServe(tmp_path_factory.mktemp("watched") / "home", [store["echo"]])
    try:
        started = torchserve.start("--quiet", "--model-api")
        assert started.returncode == 0, started.stderr
        yield torchserve
    finally:
        torchserve.stop()


def make_supervisor(home: Path) -> Supervisor:
    options = StartOptions(home, home / "config.properties", home / "model_store", [], 1.0, model_api=False, quiet=True)
    return Supervisor(options, foreground=False)


def state(torchserve: TorchServe) -> dict:
    return supervision.read_state(torchserve.server.temp)


def answers(torchserve: TorchServe) -> bool:
    try:
        return torchserve.predict("echo", json={"values": [1]}).status_code == 200
    except (OpserveError, requests.RequestException):
        return False


def kill_java(torchserve: TorchServe) -> list[psutil.Process]:
    """Kills a server's Java process, waits for the restart, and returns the old workers."""
    before = state(torchserve)["restarts"]
    frontend = torchserve.server.require_running()
    its = processes.workers(torchserve.home, torchserve.server.temp, [frontend])
    # A suspended worker cannot notice that its frontend is gone.
    its[0].suspend()
    frontend.kill()
    until(lambda: state(torchserve).get("restarts") == before + 1, "the restart")
    return its


def test_a_killed_server_is_served_again_as_it_was(watched: TorchServe) -> None:
    before = watched.server.require_running()
    ended, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            ended.append(answers(watched))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    until(lambda: any(ended), "an answer")
    workers = kill_java(watched)
    so_far = len(ended)
    until(lambda: any(ended[so_far + len(asking) :]), "an answer of the new server")
    stop.set()
    for thread in asking:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive(), "a request hangs"
    after = watched.server.require_running()
    assert after.pid != before.pid
    assert not any(map(processes.alive, workers))
    assert len(processes.workers(watched.home, watched.server.temp, [after])) == 1
    assert "--enable-model-api" in after.cmdline()
    assert after.environ()["OPSERVE_ACCESS_LOG"] == "off"
    assert {path.name for path in watched.server.temp.glob(".ts.sock.*")} == {
        f".ts.sock.{worker['id']}" for worker in watched.describe("echo")["workers"]
    }
    shown = watched.script("status").stdout
    assert "restarts 1, the last at 20" in shown
    assert "the server ended at 20" in shown
    assert "started again" in (watched.server.logs / "supervisor.log").read_text()


def test_it_gets_the_workers_back_that_it_had(watched: TorchServe) -> None:
    assert watched.script("scale", "echo", "2").returncode == 0
    kill_java(watched)
    until(lambda: [w["status"] for w in watched.describe("echo")["workers"]] == ["READY"] * 2, "two workers")


def test_a_start_that_fails_is_tried_again_and_reported(watched: TorchServe) -> None:
    away = watched.model_store.rename(watched.home / "away")
    watched.server.require_running().kill()
    until(lambda: state(watched).get("failures"), "a try that fails")
    shown = watched.script("status")
    assert shown.returncode == 3
    assert "its supervisor starts it again" in shown.stdout
    assert f"{watched.model_store} " in shown.stdout
    away.rename(watched.model_store)
    until(lambda: answers(watched), "an answer")
    until(lambda: "failed" not in watched.script("status").stdout, "the end of the report")


def test_a_killed_supervisor_is_noticed_and_replaced(watched: TorchServe) -> None:
    supervisor = psutil.Process(supervision.find_supervisor(watched.server.temp))
    supervisor.kill()
    until(lambda: not processes.alive(supervisor), "the supervisor's end")
    assert answers(watched)
    assert "supervisor  none; `make start` starts one" in watched.script("status").stdout
    before = watched.server.require_running().pid
    assert watched.start().returncode == 0
    assert watched.server.require_running().pid == before
    assert supervision.find_supervisor(watched.server.temp) not in (None, supervisor.pid)


def test_there_is_only_one_supervisor_and_it_is_small(watched: TorchServe) -> None:
    command = [sys.executable, "-m", "scripts.supervise", "--home", str(watched.home)]
    assert subprocess.run(command, cwd=ROOT, timeout=TIMEOUT_S, check=False).returncode == 0
    supervisor = psutil.Process(supervision.find_supervisor(watched.server.temp))
    assert supervisor.memory_full_info().pss < 16 * MIB
    spent = sum(supervisor.cpu_times()[:2])
    time.sleep(2)  # what it costs while nothing happens
    assert sum(supervisor.cpu_times()[:2]) - spent < 0.02


def test_it_needs_the_standard_library_only() -> None:
    code = "import sys, scripts.supervise; print({'psutil', 'requests', 'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_stop_ends_the_supervisor_first(stopped: TorchServe) -> None:
    assert stopped.start().returncode == 0
    supervisor = psutil.Process(supervision.find_supervisor(stopped.server.temp))
    assert stopped.stop().stdout == "stopped\n"
    assert not processes.alive(supervisor)
    assert nothing_left(stopped.server)


def test_stop_ends_a_supervisor_that_is_starting_the_server_again(stopped: TorchServe) -> None:
    assert stopped.start().returncode == 0
    stopped.server.require_running().kill()
    until(lambda: state(stopped).get("now") == "restarting", "the restart")
    until(lambda: processes.launchers(stopped.home) or processes.frontends(stopped.home), "the new server's start")
    done = stopped.stop()
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
    assert nothing_left(stopped.server)


def test_a_supervisor_that_can_no_longer_be_found_starts_nothing(stopped: TorchServe) -> None:
    assert stopped.start().returncode == 0
    supervisor = psutil.Process(supervision.find_supervisor(stopped.server.temp))
    shutil.rmtree(stopped.server.temp)
    assert stopped.stop().stdout == "stopped\n"
    until(lambda: not processes.alive(supervisor), "the supervisor's end")
    assert nothing_left(stopped.server)


def test_in_the_foreground_the_supervisor_starts_and_stops_the_server(stopped: TorchServe) -> None:
    command = ["env", "--default-signal", sys.executable, "-m", "scripts.supervise", "--foreground"]
    running = subprocess.Popen([*command, "--home", str(stopped.home)], cwd=ROOT, stdout=subprocess.DEVNULL)
    until(lambda: state(stopped).get("now") == "watching" or running.poll() is not None, "the start")
    assert answers(stopped)
    stopped.server.require_running().kill()
    until(lambda: state(stopped).get("restarts") == 1, "the restart")
    assert answers(stopped)
    running.send_signal(signal.SIGTERM)
    assert running.wait(TIMEOUT_S) == 0
    assert nothing_left(stopped.server)


def test_stop_ends_a_supervisor_in_the_foreground_too(stopped: TorchServe) -> None:
    command = ["env", "--default-signal", sys.executable, "-m", "scripts.supervise", "--foreground"]
    running = subprocess.Popen([*command, "--home", str(stopped.home)], cwd=ROOT, stdout=subprocess.DEVNULL)
    until(lambda: state(stopped).get("now") == "watching" or running.poll() is not None, "the start")
    assert stopped.stop().stdout == "stopped\n"
    # Not a failure, after which a service manager would restart it.
    assert running.wait(TIMEOUT_S) == 0
    assert nothing_left(stopped.server)


def test_a_supervisor_without_a_server_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.supervise", "--home", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    said = f"error: no server that `make start` started runs in {tmp_path}\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_the_log_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    watching = make_supervisor(tmp_path)
    for _ in range(40):
        watching.log("x" * (LOG_BYTES // 10))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "logs").iterdir()}
    assert set(sizes) == {"supervisor.log", "supervisor.log.1"}
    assert max(sizes.values()) < 1.2 * LOG_BYTES


def test_why_java_ended_is_found_in_its_logs(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    watching = make_supervisor(tmp_path)
    assert "it left no message" in watching._cause(7)
    console = tmp_path / "logs" / "console.log"
    console.write_text("Warning: -XX:+ExitOnOutOfMemoryError\n")
    assert "it left no message" in watching._cause(7)
    console.write_text(console.read_text() + "Terminating due to java.lang.OutOfMemoryError: Java heap space\n")
    assert watching._cause(7) == "Terminating due to java.lang.OutOfMemoryError: Java heap space"
    (tmp_path / "hs_err_pid7.log").write_text("")
    assert watching._cause(7).startswith("Java crashed; ")


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"restarts": 1})])
def test_a_damaged_state_is_read_as_empty(tmp_path: Path, content: str) -> None:
    (tmp_path / supervision.STATE_FILE).write_text(content)
    assert supervision.read_state(tmp_path) == ({"restarts": 1} if "restarts" in content else {})
    assert supervision.find_supervisor(tmp_path) is None
