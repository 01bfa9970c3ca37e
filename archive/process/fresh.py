"""Runs a command in a process that cannot outlive this one, and turns its failure into one line."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from archive.errors import ArchiveError

# For loading and running a model once; a library that hangs while it loads must not hang the caller.
TRIAL_SECONDS = 600
# For the answer to a sample; TorchServe would not send a larger one.
TRIAL_OUTPUT_BYTES = 128 << 20
# Of its stderr, the end is kept.
ERROR_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1


class TookTooLong(Exception):
    """The command did not end in time and was killed."""


class OutputTooLong(Exception):
    """The command wrote too much and was killed."""


@dataclass(frozen=True)
class Done:
    """The result of a command that ended."""

    returncode: int
    stdout: bytes
    stderr: bytes

    def reason(self, what: str) -> str:
        """Why it failed while `what`, in one line: its own last line, or how it ended."""
        if self.returncode < 0:
            return f"its process was ended by {signal.Signals(-self.returncode).name} while {what}"
        # The answer on stdout may be large; the reason is at the end.
        lines = (self.stderr + self.stdout[-ERROR_BYTES:]).decode(errors="replace").strip().splitlines()
        reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines[-1:]
        return reasons[0] if reasons else f"its process ended with status {self.returncode}"


def run_in_fresh_process(command: list[str], folder: Path, **environment: str) -> str:
    """Runs a command in `folder`, without this process's Python path; returns its stdout.

    Raises:
        ArchiveError: with the command's own last line, or how it ended.
    """
    try:
        done = run_command(command, folder, environment, TRIAL_SECONDS, TRIAL_OUTPUT_BYTES)
    except TookTooLong as error:
        raise ArchiveError(f"it did not finish within {TRIAL_SECONDS} s") from error
    except OutputTooLong as error:
        raise ArchiveError(f"it wrote more than {TRIAL_OUTPUT_BYTES:,} bytes") from error
    if done.returncode:
        raise ArchiveError(done.reason("it loaded or ran"))
    return done.stdout.decode(errors="replace")


def run_command(
    command: list[str], folder: Path, environment: dict[str, str], seconds: float, output_bytes: int
) -> Done:
    """Runs a command; kills it and the processes it started if a limit, an error or a signal ends this call early.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environment: variables in addition to those of this process.
        seconds: how long it may take.
        output_bytes: how much it may write to stdout.

    Raises:
        TookTooLong, OutputTooLong: it exceeded one of the limits.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSTARTUP")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # In its own process group, all of which can be killed.
        start_new_session=True,
        # Nothing here has a second thread.
        preexec_fn=functools.partial(_end_with_parent, os.getpid()),  # noqa: PLW1509
    )
    assert process.stdout and process.stderr
    with process.stdout as out, process.stderr as err:
        try:
            stdout, stderr = _read(process, out, err, time.monotonic() + seconds, output_bytes)
            return Done(process.returncode, stdout, stderr)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(
    process: subprocess.Popen[bytes], out: IO[bytes], err: IO[bytes], deadline: float, output_bytes: int
) -> tuple[bytes, bytes]:
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ, stdout)
        selector.register(err, selectors.EVENT_READ, stderr)
        # It may close both and keep running.
        while selector.get_map() or process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TookTooLong
            if not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(left)
                continue
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _READ_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                key.data.extend(chunk)
                if len(stdout) > output_bytes:
                    raise OutputTooLong
                if len(stderr) > 2 * ERROR_BYTES:
                    del stderr[:-ERROR_BYTES]
    return bytes(stdout), bytes(stderr)


def _end_with_parent(parent: int) -> None:
    # Also if that is killed: otherwise a model that hangs while it loads would stay.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


# Loaded here because nothing may be loaded between fork and exec.
_LIBC = ctypes.CDLL(None)
