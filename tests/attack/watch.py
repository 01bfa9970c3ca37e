"""What an attack must not change: a server's processes, what they use, and what they log."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.support.torchserve import TorchServe

# /proc/PID/clear_refs: the peak of the resident memory starts again from what there is now.
RESET_PEAK = "5"
POLL_S = 0.05
MIB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")

# Lines of the logs that mean that a worker or the server failed, not that a request was refused. TorchServe logs a
# stack trace for every form that it cannot read, and for every connection for which there is no room.
FAULTS = {
    "model_log.log": re.compile(
        r"Traceback \(most recent call last\)|Invoking custom service failed|process died|Fatal"
    ),
    "ts_log.log": re.compile(r"Worker died|Backend worker (?:process died|error)|Java heap space"),
    "console.log": re.compile(r"Segmentation fault|free\(\)|malloc\(\)|corrupted|Java heap space"),
}


class Bounds(NamedTuple):
    """What one request may cost a worker at most."""

    memory: int = 4 * (256 << 20)  # bytes, beyond what the worker had: four times the largest legal request
    processor_s: float = 5.0
    # What stays with a worker when all is answered: its allocator keeps some of what it once had.
    left: int = 512 << 20
    # A worker that takes this much more is ended, and counts as dead: the machine has other users.
    ceiling: int = 4 << 30


class Processes(NamedTuple):
    """The processes of a server: the frontend and each model's workers, as (pid, start time)."""

    frontend: tuple[int, float] | None
    workers: dict[str, list[tuple[int, float]]]


class Reading(NamedTuple):
    """What some requests cost the worker that they cost most: bytes of memory at the peak, processor seconds."""

    memory: int
    processor_s: float


def processes(torchserve: TorchServe, models: Iterable[str]) -> Processes:
    """Returns the processes that serve now."""
    frontend = torchserve.server.frontend()
    found = {}
    for model in models:
        workers = torchserve.describe(model)["workers"]
        found[model] = sorted(_identity(int(worker["pid"])) for worker in workers if worker["status"] == "READY")
    return Processes(_identity(frontend.pid) if frontend else None, found)


def _identity(pid: int) -> tuple[int, float]:
    try:
        return pid, psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return pid, 0.0


def deaths(before: Processes, after: Processes) -> list[str]:
    """Returns those of `before` that have ended."""
    gone = [] if before.frontend == after.frontend else ["the frontend ended"]
    for model, workers in before.workers.items():
        lost = set(workers) - set(after.workers.get(model, []))
        gone += [f"a worker of {model} ended"] * len(lost)
    return gone


class Meter:
    """Measures some processes between `start` and `stop`; ends one that goes over the ceiling.

    Args:
        pids: the processes.
        bounds: with the ceiling.
    """

    def __init__(self, pids: Iterable[int], bounds: Bounds):
        self._pids = list(pids)
        self._bounds = bounds
        self._before: dict[int, tuple[int, float]] = {}
        self._done = threading.Event()
        self._guard = threading.Thread(target=self._watch, daemon=True)
        self.ended: list[int] = []

    def start(self) -> Meter:
        """Begins to measure."""
        for pid in self._pids:
            with contextlib.suppress(OSError, psutil.Error):
                Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)
                self._before[pid] = (_memory(pid, "VmRSS"), processor_s(pid))
        self._guard.start()
        return self

    def stop(self) -> Reading:
        """Returns what was used since `start`."""
        self._done.set()
        self._guard.join()
        memory, seconds = 0, 0.0
        for pid, (resident, used) in self._before.items():
            with contextlib.suppress(OSError, psutil.Error):
                memory = max(memory, _memory(pid, "VmHWM") - resident)
                seconds = max(seconds, processor_s(pid) - used)
        if self.ended:
            memory = max(memory, self._bounds.ceiling)
        return Reading(memory, seconds)

    def _watch(self) -> None:
        while not self._done.wait(POLL_S):
            for pid, (resident, _) in self._before.items():
                with contextlib.suppress(OSError, psutil.Error):
                    if pid not in self.ended and _memory(pid, "VmRSS") - resident > self._bounds.ceiling:
                        self.ended.append(pid)
                        psutil.Process(pid).kill()


def resident(pid: int) -> int:
    """Resident memory of a process in bytes, 0 when it has ended."""
    try:
        return _memory(pid, "VmRSS")
    except OSError:
        return 0


def _memory(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def processor_s(pid: int) -> float:
    """Processor seconds that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Logs:
    """The lines that a server's logs grow by."""

    NAMES = ("model_log.log", "ts_log.log", "access_log.log", "console.log")

    def __init__(self, folder: Path):
        self._folder = folder
        self._read = {name: self._size(name) for name in self.NAMES}

    def _size(self, name: str) -> int:
        path = self._folder / name
        return path.stat().st_size if path.exists() else 0

    def new(self) -> dict[str, list[str]]:
        """The lines since the last call, by the log's name."""
        found = {}
        for name in self.NAMES:
            size, begin = self._size(name), self._read[name]
            if size < begin:  # the log was cut and began again
                begin = 0
            with contextlib.suppress(FileNotFoundError), (self._folder / name).open("rb") as file:
                file.seek(begin)
                found[name] = file.read(size - begin).decode(errors="replace").splitlines()
            self._read[name] = size
        return found


def wait_until(condition, seconds: float) -> bool:
    """Whether a condition came true within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if condition():
                return True
        time.sleep(POLL_S)
    return False
