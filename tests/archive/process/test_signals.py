"""A signal that asks a process to end becomes an exception, once, and the cleanup is not interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from archive.process.signals import ENDING, Terminated, deferred, raise_on_termination
from archive.repository import ROOT

RUN = """
import os, subprocess, sys, time
from archive.process.command import run

def main():
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaning up", flush=True)
        sys.stdin.readline()
        print("clean", flush=True)

run(main)
"""


def raise_signal(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_raises_and_the_previous_handler_is_restored(number: int) -> None:
    # Tests that run in the background ignore some of them.
    inherited = signal.signal(number, before := signal.default_int_handler)
    try:
        with pytest.raises(Terminated) as raised, raise_on_termination():
            raise_signal(number)
        assert raised.value.exit_code == 128 + number
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, inherited)


def test_later_signals_do_not_interrupt_the_cleanup() -> None:
    cleaned = False
    with pytest.raises(Terminated) as raised, raise_on_termination():
        try:
            raise_signal(signal.SIGTERM)
        finally:
            for number in ENDING:
                raise_signal(number)
            cleaned = True
    assert cleaned
    assert raised.value.number == signal.SIGTERM


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_on_termination():
            raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_deferred_signal_raises_at_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(Terminated), raise_on_termination():
        with deferred():
            raise_signal(signal.SIGTERM)
            steps.append("whole")
        steps.append("never reached")
    assert steps == ["whole"]


def test_an_error_in_a_deferring_block_is_that_error() -> None:
    with pytest.raises(ValueError, match="first"), raise_on_termination(), deferred():
        raise_signal(signal.SIGTERM)
        raise ValueError("first")
    # And nothing of the signal is left for the next block.
    with raise_on_termination(), deferred():
        pass


@pytest.mark.parametrize("number", ENDING)
def test_a_script_cleans_up_and_reports_the_signal(number: int, tmp_path: Path) -> None:
    # Whoever runs the tests in the background has SIGINT and SIGQUIT ignored, also by what the tests start.
    command = ["env", "--default-signal", sys.executable, "-c", RUN]
    running = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "working\n"
    running.send_signal(number)
    assert running.stdout.readline() == "cleaning up\n"
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate("go on\n", timeout=60)
    assert out == "clean\n"
    assert running.returncode == 128 + number
