"""Servers that run side by side, each with its own home folder and ports: for tests and benchmarks."""

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve.configuration import write_config
from scripts.torchserve.server import Server

# Generous, because other work may share the machine.
TIMEOUT_S = 120.0


def make_home(home: Path, archives: Iterable[Path], **changes: str) -> Server:
    """Makes the home folder of a server: the shipped configuration with free ports, and links to archives.

    Args:
        home: the folder; it may exist.
        archives: `.mar` files for its model store.
        changes: values of its configuration.
    """
    store = home / "model_store"
    store.mkdir(parents=True)
    for archive in archives:
        (store / archive.name).symlink_to(archive.resolve())
    write_config(home, **changes)
    return Server(home)


def run_command(home: Path, name: str, *arguments: str, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Runs one of the commands in scripts/ on the server of a home folder, as a person would."""
    command = [sys.executable, "-m", f"scripts.{name}", "--home", str(home), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


@contextlib.contextmanager
def running_server(home: Path, archives: Iterable[Path], **changes: str) -> Iterator[Server]:
    """Starts a server with `make_home`, and stops it whatever happens.

    Raises:
        OpserveError: it did not start; with what the command printed.
    """
    server = make_home(home, archives, **changes)
    try:
        started = run_command(home, "start")
        if started.returncode:
            raise OpserveError(f"{started.stdout}\n{started.stderr}")
        yield server
    finally:
        run_command(home, "stop")
