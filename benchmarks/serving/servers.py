"""Starts a server, sends it requests and stops it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import requests

from archive.errors import OpserveError
from benchmarks.common.payloads import Payload
from benchmarks.common.responses import WrongResponse, check_response
from benchmarks.common.workloads import SHARED_MEMORY, Workload
from benchmarks.serving import environments
from benchmarks.serving.processes import Processes
from scripts.load import wrk
from scripts.load.result import Load
from scripts.torchserve.ports import free_ports

PEERS = Path(__file__).with_name("peers")
START_S = 120.0
POLL_S = 0.05
REQUEST_S = 60.0
WARM_UP_CONNECTIONS = 8


class ServerFailed(OpserveError):
    """A server does not start, or ended; the message contains its last output."""


def is_sent(workload: Workload) -> bool:
    """Whether a request contains its arrays, so that any server may accept it."""
    return workload.format != SHARED_MEMORY


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that can be measured; its subclasses know how to start it.

    Attributes:
        name: Its name in the tables.
        distribution: The package whose version is reported; empty for none.
        environment: The peers' environment that it runs in; empty for opserve's own.
        accepts: Whether it can serve a workload.
        payload: Encodes a workload as this server accepts it.
        path: The path that a workload is sent to.
    """

    name: str
    distribution: str = ""
    environment: str = environments.COMMON
    accepts: Callable[[Workload], bool] = is_sent
    payload: Callable[[Workload], Payload] = Workload.payload
    path: Callable[[Workload], str] = lambda workload: f"/{workload.model}"

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> Running:
        """Starts the server.

        Args:
            models: What it serves.
            files: Folder with the models' files.
            python: The Python of its environment; `None` if there is none.
            folder: Its current folder, for its temporary files and its log.

        Raises:
            ServerFailed: It did not start, and nothing of it is left running.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class PeerServer(Server):
    """A server that is one command in a peers' environment.

    Attributes:
        command: The words of the command, for that environment's Python and a port.
        variables: Further environment variables.
    """

    command: Callable[[Path, int], list[str]]
    variables: Mapping[str, str] = field(default_factory=dict)

    def launch(self, models: Sequence[str], files: Path, python: Path | None, folder: Path) -> Running:
        """Starts the command, which may not listen yet when this returns."""
        if python is None:
            raise ServerFailed("its environment was not installed")
        (port, *_) = free_ports(3)
        variables = peer_variables(models, files, python, folder) | {"BENCH_PORT": str(port)} | dict(self.variables)
        processes, log = Processes(), folder / "server.log"
        started = processes.spawn(self.command(python, port), folder, log, variables)
        return Running(self, processes, f"http://127.0.0.1:{port}", log, started)


def peer_variables(models: Sequence[str], files: Path, python: Path, folder: Path) -> dict[str, str]:
    """Environment variables that peers/common.py reads, and that keep a server's files in its own folder."""
    return {
        "BENCH_FOLDER": str(files),
        "BENCH_SERVED": ",".join(models),
        "BENCH_PORT": "0",
        "PYTHONPATH": str(PEERS),
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        **dict.fromkeys(("TMPDIR", "TEMP", "RAY_TMPDIR"), str(folder)),
    }


class Running:
    """A started server, which `with` stops.

    Args:
        server: What was started.
        processes: Its processes.
        address: Its base URL.
        log: The file with its output.
        started: The process that was started, if the server ends with it.
    """

    def __init__(
        self,
        server: Server,
        processes: Processes,
        address: str,
        log: Path | None = None,
        started: subprocess.Popen | None = None,
    ) -> None:
        self.server, self.processes, self.address, self.log = server, processes, address, log
        self.headers: dict[str, str] = {}
        self._started = started
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends all of its processes."""
        self._session.close()
        self.processes.terminate()
        if self._started is not None:
            self._started.wait()

    def url(self, workload: Workload) -> str:
        """The URL that a workload is sent to."""
        return self.address + self.server.path(workload)

    def unused_workers(self, model: str) -> Collection[int]:
        """Ids of the processes that serve only other models."""
        return ()

    def send_once(self, workload: Workload) -> None:
        """Sends a workload once and checks the response.

        Raises:
            WrongResponse: The response is not the expected one.
            ServerFailed: There is no response.
        """
        payload = self.server.payload(workload)
        try:
            response = self._session.post(
                self.url(workload), data=payload.body, headers={**payload.headers, **self.headers}, timeout=REQUEST_S
            )
        except requests.RequestException as error:
            raise ServerFailed(f"{workload.name}: no response ({type(error).__name__})") from None
        check_response(workload, response.status_code, response.content, response.headers)

    def load(self, workload: Workload, connections: int, seconds: int) -> Load:
        """Sends a workload repeatedly."""
        payload = self.server.payload(workload)
        return wrk.load(self.url(workload), payload.body, {**payload.headers, **self.headers}, connections, seconds)

    def warm_up(self, workload: Workload, seconds: int) -> None:
        """Loads a server that was just started, twice: Java compiles again when the first connections end."""
        for part in (seconds - seconds // 2, seconds // 2):
            self.load(workload, WARM_UP_CONNECTIONS, max(1, part))

    def wait_ready(self, workload: Workload, limit: float = START_S) -> float:
        """Waits for the first right response; returns the seconds until then.

        Raises:
            WrongResponse: Its response is another one.
            ServerFailed: It ended, or did not respond in time.
        """
        begin = time.monotonic()
        while True:
            try:
                self.send_once(workload)
                return time.monotonic() - begin
            except (WrongResponse, ServerFailed) as error:
                # Servers that are still loading respond with 404 or 503.
                loading = isinstance(error, ServerFailed) or re.search(r"status (404|503)", str(error))
                if self._started is not None and self._started.poll() is not None:
                    raise ServerFailed(f"it ended while it started: {self.last_output()}") from None
                if not loading:
                    raise
                if time.monotonic() - begin > limit:
                    raise ServerFailed(f"not ready after {limit:.0f} s ({error}): {self.last_output()}") from None
            time.sleep(POLL_S)

    def last_output(self) -> str:
        """Reads the last error from its output, or else the last lines."""
        if self.log is None or not self.log.is_file():
            return "(no output)"
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"(error:|ERROR|\w*(Error|Exception):)", line)]
        return " / ".join(errors[-1:] or lines[-3:])[-400:] or "(no output)"


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Creates a current folder and TMPDIR for one server; its path is short because sockets are in it."""
    folder = Path(tempfile.mkdtemp(prefix="opserve-bs-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
