"""A start that is interrupted, by any signal and at any moment, leaves nothing behind."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.repository import ROOT
from scripts.torchserve import processes, supervision
from scripts.torchserve.server import Server
from tests.support.torchserve import TIMEOUT_S, TorchServe, nothing_left, until

pytestmark = [pytest.mark.server, pytest.mark.slow]


def launching(server: Server) -> bool:
    return bool(processes.launchers(server.home))


def java_runs(server: Server) -> bool:
    return bool(processes.frontends(server.home))


def worker_runs(server: Server) -> bool:
    return bool(processes.workers(server.home, server.temp, processes.frontends(server.home)))


def tried(server: Server) -> bool:
    return (server.temp / "served.json").exists()


def begin(torchserve: TorchServe, moment: Callable[[Server], bool]) -> subprocess.Popen:
    """Returns a start that has got as far as a given moment."""
    # When the tests run in the background, SIGINT is ignored, also by the processes they start.
    command = ["env", "--default-signal", sys.executable, "-m", "scripts.start", "--home", str(torchserve.home)]
    starting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: moment(torchserve.server) or starting.poll() is not None, moment.__name__)
    return starting


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (launching, signal.SIGTERM),
        (java_runs, signal.SIGTERM),
        (worker_runs, signal.SIGTERM),
        (launching, signal.SIGINT),
        (java_runs, signal.SIGHUP),
        (worker_runs, signal.SIGQUIT),
    ],
)
def test_nothing_is_left_behind(stopped: TorchServe, moment: Callable[[Server], bool], number: int) -> None:
    starting = begin(stopped, moment)
    starting.send_signal(number)
    # A second, impatient signal changes nothing.
    starting.send_signal(signal.SIGTERM)
    _, said = starting.communicate(timeout=TIMEOUT_S)
    assert starting.returncode == 128 + number, said
    assert "Traceback" not in said
    assert nothing_left(stopped.server)


def test_an_interrupt_at_the_last_moment_leaves_all_or_nothing(stopped: TorchServe) -> None:
    starting = begin(stopped, tried)
    starting.send_signal(signal.SIGTERM)
    starting.wait(TIMEOUT_S)
    if starting.returncode != 0 and nothing_left(stopped.server):
        return
    assert tried(stopped.server)
    assert supervision.find_supervisor(stopped.server.temp) is not None
    assert stopped.predict("echo", json={"values": [1]}).json() == {"doubled": [2]}


@pytest.mark.parametrize("moment", [launching, worker_runs])
def test_after_a_killed_start_the_next_one_begins_again(stopped: TorchServe, moment: Callable[[Server], bool]) -> None:
    starting = begin(stopped, moment)
    starting.kill()
    starting.wait()
    again = stopped.start()
    assert again.returncode == 0, again.stderr
    # What the killed start left was never tried: it does not count as running.
    assert "already running" not in again.stdout
    assert '{"doubled": [3.0, 4]}' in again.stdout
    assert len(processes.frontends(stopped.home)) == 1
    assert supervision.find_supervisor(stopped.server.temp) is not None
    assert stopped.stop().stdout == "stopped\n"
    assert nothing_left(stopped.server)


def test_stop_ends_what_a_killed_start_left_behind(stopped: TorchServe, tmp_path: Path) -> None:
    starting = begin(stopped, launching)
    starting.kill()
    starting.wait()
    done = stopped.stop()
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
    assert nothing_left(stopped.server)
