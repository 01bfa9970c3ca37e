"""The processes of one server, wherever it put them: found by a mark in their environment, which every child inherits.

A process tree would lose those that a server detaches, as TorchServe's launcher and Ray do.
"""

import contextlib
import os
import secrets
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from scripts.torchserve import processes

MARK = "OPSERVE_BENCHMARK_SERVER"
GRACE_S = 5.0


class Processes:
    """All processes of one server, and what they used."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)

    def environment(self, **variables: str) -> dict[str, str]:
        """This process's environment with the mark, equal threads for everybody, and what is given."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return os.environ | threads | variables | {MARK: self.mark}

    def spawn(self, command: list[str], folder: Path, log: Path, variables: Mapping[str, str]) -> subprocess.Popen:
        """Start a command with the mark; it cannot get a Ctrl-C that is meant for the benchmark."""
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
        """Those that run now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark and processes.alive(process):
                    found.append(process)
        return found

    def cpu_seconds(self) -> dict[int, float]:
        """Processor time that each has used so far, by process id."""
        used = {}
        for process in self.find():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        return used

    def memory(self, without: Collection[int] = ()) -> int:
        """Resident bytes together; pages that several share count for each of them."""
        return processes.memory(process for process in self.find() if process.pid not in without)

    def end(self) -> None:
        """End all, those too that appear meanwhile; what does not go is killed."""
        while running := self.find():
            processes.terminate(running, GRACE_S)


def used_between(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Processor seconds used by those that ran at the end."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
