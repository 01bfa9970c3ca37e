"""What a server's supervisor leaves in the temporary folder: its lock and its state. Standard library only."""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

# The supervisor holds a lock on the first for as long as it runs.
PID_FILE, STATE_FILE, SERVER_PID_FILE = "supervisor.pid", "supervisor.json", ".model_server.pid"
# The exit code of restart.py when a server that `make start` did not start runs in the home.
NOT_OURS = 4
FRONTEND = b"org.pytorch.serve.ModelServer"


def lock_supervisor(temp: Path) -> int | None:
    """Makes this process the only supervisor of a home; returns its locked pid file, or None if there is one."""
    handle = os.open(temp / PID_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.truncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def find_supervisor(temp: Path) -> int | None:
    """Returns the pid of the supervisor of the server with this temporary folder, or None."""
    try:
        handle = os.open(temp / PID_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(ValueError):
            return int(os.pread(handle, 32, 0))
    finally:
        os.close(handle)
    return None


def read_state(temp: Path) -> dict[str, Any]:
    """Returns the state that a supervisor wrote last; empty when there is none or it cannot be read."""
    with contextlib.suppress(OSError, ValueError), (temp / STATE_FILE).open() as file:
        state = json.load(file)
        if isinstance(state, dict):
            return state
    return {}


def write_state(temp: Path, state: dict[str, Any]) -> None:
    """Replaces the supervisor's state; a full disk is not an error."""
    new = temp / f"{STATE_FILE}.new"
    with contextlib.suppress(OSError):
        new.write_text(json.dumps(state))
        new.replace(temp / STATE_FILE)


def find_server(temp: Path) -> int:
    """Returns the pid of the running Java process that the server's pid file names, or 0."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((temp / SERVER_PID_FILE).read_text())
        return pid if is_server(pid) else 0
    return 0


def is_server(pid: int) -> bool:
    """Whether a process is a TorchServe frontend."""
    with contextlib.suppress(OSError):
        return FRONTEND in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
