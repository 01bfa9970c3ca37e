"""Runs a command apart from this process, and puts what it complains of into one line."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from archive.errors import ArchiveError

# Loading and running a model once; a library that hangs while it loads must not hang who tries it.
TRIAL_SECONDS = 600


def run_in_fresh_process(command: list[str], folder: Path, **environment: str) -> str:
    """Runs a command in `folder`, without this process's Python path; returns its stdout.

    Raises:
        ArchiveError: with the command's own last line, or how it ended.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSTARTUP")}
    try:
        process = subprocess.run(
            command,
            cwd=folder,
            env=inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArchiveError(f"it did not finish within {TRIAL_SECONDS} s") from error
    if process.returncode == 0:
        return process.stdout
    if process.returncode < 0:
        raise ArchiveError(
            f"its process was ended by {signal.Signals(-process.returncode).name} while it loaded or ran"
        )
    lines = (process.stderr + process.stdout).strip().splitlines()
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines[-1:]
    raise ArchiveError(reasons[0] if reasons else f"its process ended with status {process.returncode}")
