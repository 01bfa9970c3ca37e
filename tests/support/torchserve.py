"""A real TorchServe for tests: in its own home folder, with free ports and a copy of the shipped configuration."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import requests

from archive.repository import ROOT
from scripts.torchserve import processes, supervision, versions
from scripts.torchserve.configuration import write_config
from scripts.torchserve.server import Server

# Generous, because other work may share the machine.
TIMEOUT_S = 120.0


class TorchServe:
    """A home folder with archives, and the server that runs there after `start`."""

    def __init__(self, home: Path, archives: list[Path], **changes: str) -> None:
        self.home = home
        self.model_store = home / "model_store"
        self.model_store.mkdir(parents=True)
        for archive in archives:
            (self.model_store / archive.name).symlink_to(archive.resolve())
        write_config(home, **changes)
        self.server = Server(home)

    def script(self, name: str, *arguments: str, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Runs a command of scripts/ on this server."""
        return run_command(self.home, name, *arguments, timeout=timeout)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Starts the server; it has answered every archive's sample if this returns 0."""
        return self.script("start", *arguments)

    def stop(self) -> subprocess.CompletedProcess[str]:
        """Stops it and removes what it left behind."""
        return self.script("stop")

    def predict(self, model: str, **options: Any) -> requests.Response:
        """Sends a POST to a model with a valid token; the options are those of `requests`."""
        return self.server.request("inference", "POST", f"/predictions/{model}", TIMEOUT_S, **options)

    def management(self, method: str, path: str, **options: Any) -> requests.Response:
        """Calls the management API with a valid token."""
        return self.server.request("management", method, path, TIMEOUT_S, **options)

    def metrics(self) -> requests.Response:
        """Returns the page that Prometheus reads."""
        return self.server.request("metrics", "GET", "/metrics")

    def describe(self, model: str) -> dict[str, Any]:
        """Returns TorchServe's description of a served model."""
        return self.server.require_model(model)

    def describe_by_worker(self, model: str) -> dict[str, Any]:
        """Returns a worker's own description of the default version of a model."""
        version = self.describe(model)["modelVersion"]
        described = versions.describe_by_worker(self.server, model, version, TIMEOUT_S)
        assert described is not None, f"no worker of {model} describes it"
        return described

    def model_log(self) -> str:
        """Returns what the workers have logged so far."""
        return (self.home / "logs" / "model_log.log").read_text(errors="replace")


def run_command(home: Path, name: str, *arguments: str, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Runs a command of scripts/ on the server of a home folder, as a person would."""
    command = [sys.executable, "-m", f"scripts.{name}", "--home", str(home), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


@contextlib.contextmanager
def serving(home: Path, archives: list[Path], **changes: str) -> Iterator[TorchServe]:
    """A running server of these archives, which is stopped whatever happens."""
    torchserve = TorchServe(home, archives, **changes)
    try:
        started = torchserve.start()
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"
        yield torchserve
    finally:
        torchserve.stop()


def nothing_left(server: Server) -> bool:
    """Whether there is no process, socket, pid file or key of this home."""
    found = processes.launchers(server.home) + processes.frontends(server.home)
    found += processes.workers(server.home, server.temp, [])
    supervised = supervision.find_supervisor(server.temp) is not None
    return not found and not supervised and not server.temp.exists() and not server.key_file.exists()


def until(condition: Callable[[], Any], what: str, seconds: float = TIMEOUT_S) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


def stop_all_below(folder: Path) -> None:
    """Stops every server whose home is in a folder."""
    for process in psutil.process_iter():
        # A process may end, or belong to another user, while it is examined.
        with contextlib.suppress(psutil.Error, OSError):
            home = Path(process.cwd())
            if processes.FRONTEND in process.cmdline() and home.is_relative_to(folder):
                run_command(home, "stop")


Serve = Callable[..., TorchServe]
