"""A real TorchServe of a test's own: free ports, a home folder, a configuration made from the shipped one."""

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
from scripts.torchserve import processes, supervision
from scripts.torchserve.configuration import write_config
from scripts.torchserve.server import Server

# Generous, because other work may share the machine; what is awaited ends the wait.
TIMEOUT_S = 120.0


class TorchServe:
    """A home folder with archives in it, and the server that runs there once `start` was called."""

    def __init__(self, home: Path, archives: list[Path], **changes: str) -> None:
        self.home = home
        self.model_store = home / "model_store"
        self.model_store.mkdir(parents=True)
        for archive in archives:
            (self.model_store / archive.name).symlink_to(archive.resolve())
        write_config(home, **changes)
        self.server = Server(home)

    def script(self, name: str, *arguments: str, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run one of scripts/ on this home, as a person would."""
        command = [sys.executable, "-m", f"scripts.{name}", "--home", str(self.home), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Start the server; it has answered every archive's sample when this returns 0."""
        return self.script("start", *arguments)

    def stop(self) -> subprocess.CompletedProcess[str]:
        """Stop it and remove what it left behind."""
        return self.script("stop")

    def predict(self, model: str, **options: Any) -> requests.Response:
        """POST to a model with a valid token; the options are those of `requests`."""
        return self.server.request("inference", "POST", f"/predictions/{model}", TIMEOUT_S, **options)

    def management(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the management API with a valid token."""
        return self.server.request("management", method, path, TIMEOUT_S, **options)

    def metrics(self) -> requests.Response:
        """The page that Prometheus reads."""
        return self.server.request("metrics", "GET", "/metrics")

    def describe(self, model: str) -> dict[str, Any]:
        """TorchServe's description of a served model."""
        return self.server.require_model(model)

    def model_log(self) -> str:
        """What the workers have logged so far."""
        return (self.home / "logs" / "model_log.log").read_text(errors="replace")


@contextlib.contextmanager
def serving(home: Path, archives: list[Path], **changes: str) -> Iterator[TorchServe]:
    """A server of these archives that runs, and is gone afterwards whatever happened."""
    torchserve = TorchServe(home, archives, **changes)
    try:
        started = torchserve.start()
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}"
        yield torchserve
    finally:
        torchserve.stop()


def nothing_left(server: Server) -> bool:
    """No process, socket, pid file or key of this home."""
    its = processes.launchers(server.home) + processes.frontends(server.home)
    its += processes.workers(server.home, server.temp, [])
    supervised = supervision.find_supervisor(server.temp) is not None
    return not its and not supervised and not server.temp.exists() and not server.key_file.exists()


def until(condition: Callable[[], Any], what: str, seconds: float = TIMEOUT_S) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


def stop_all_below(folder: Path) -> None:
    """Stop every server whose home is in a folder."""
    for process in psutil.process_iter():
        # A process may end, or belong to somebody else, while it is looked at.
        with contextlib.suppress(psutil.Error, OSError):
            home = Path(process.cwd())
            if processes.FRONTEND in process.cmdline() and home.is_relative_to(folder):
                command = [sys.executable, "-m", "scripts.stop", "--home", str(home)]
                subprocess.run(command, cwd=ROOT, check=False)


Serve = Callable[..., TorchServe]
