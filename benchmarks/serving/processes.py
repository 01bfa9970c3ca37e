"""The processes of one server, found by a mark in their environment, which every child inherits.

A process tree would lose those that a server detaches, as TorchServe's launcher and Ray do.
"""

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from scripts.torchserve import processes

MARK = "OPSERVE_BENCHMARK_SERVER"
GRACE_S = 5.0


class Processes:
    """All processes of one server."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)

    def environment(self, **variables: str) -> dict[str, str]:
        """This process's environment with the mark, one thread for numerical libraries, and the given variables."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return os.environ | threads | variables | {MARK: self.mark}

    def spawn(self, command: list[str], folder: Path, log: Path, variables: Mapping[str, str]) -> subprocess.Popen:
        """Starts a command with the mark, out of reach of a Ctrl-C that is meant for the benchmark."""
        with log.open("wb") as file:
            return subprocess.Popen(
                command,
                cwd=folder,
                env=self.environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def find(self) -> list[psutil.Process]:
        """Finds those that are running."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark and processes.alive(process):
                    found.append(process)
        return found

    def cpu_seconds(self) -> dict[int, float]:
        """Reads the processor time that each has used so far, by process id."""
        used = {}
        for process in self.find():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        return used

    def memory(self, without: Collection[int] = ()) -> int:
        """Adds up their resident bytes; pages that several share count for each of them."""
        return processes.memory(process for process in self.find() if process.pid not in without)

    def terminate(self) -> None:
        """Terminates all, including those that appear meanwhile, and kills those that do not end."""
        while running := self.find():
            processes.terminate(running, GRACE_S)


def used_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Adds up the processor seconds used by those that were running at the end."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def age_s(pid: int) -> float:
    """The seconds since a process was started.

    By the clock that counts from the start of the machine, like the time in its status: the time of day may have been
    corrected since.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
