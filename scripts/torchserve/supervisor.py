"""Watches one server and starts it again when it ends without having been asked to.

It waits for the end of the Java process without polling and leaves the work to other processes, so it stays small:
standard library only.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archive.process.signals import Terminated, raise_on_termination
from archive.repository import ROOT
from scripts.torchserve import supervision
from scripts.torchserve.arguments import StartOptions
from scripts.torchserve.supervision import PID_FILE
from scripts.torchserve.temp_folder import find_temp_folder

LOG, LOG_BYTES = "supervisor.log", 1 << 20
# Seconds until the next try, doubled each time: up to the first limit after starts that worked, up to the second after
# starts that failed. A server that has run for SETTLED_S resets the delay.
FIRST_DELAY_S, LONGEST_DELAY_S, LONGEST_DELAY_OF_FAILURES_S, SETTLED_S = 0.5, 30.0, 300.0, 300.0
# Consecutive failed starts, over more than an hour, before it gives up.
MAX_FAILURES = 20
# How often it looks for models that TorchServe has given up, and how soon it looks again after reviving one.
LOOK_S, CHECK_S, LONGEST_CHECK_S = 15.0, 60.0, 300.0
GIVEN_UP = b"Auto recovery failed again"
# How long a process that the supervisor has started may take to clean up. A start may have to end a server.
CHILD_GRACE_S = 60.0


class Supervisor:
    """The supervisor of the server of one home folder."""

    def __init__(self, options: StartOptions, *, foreground: bool) -> None:
        self.options, self.foreground, self.home = options, foreground, options.home.resolve()
        self.temp, self.logs = find_temp_folder(self.home), self.home / "logs"
        # Shown by `make status`, which reads a copy in the temporary folder.
        self.state: dict[str, Any] = {"pid": os.getpid(), "now": "watching", "restarts": 0, "failures": 0}
        self._log_read, self._delay = self._log_size(), FIRST_DELAY_S
        self._lock: int | None = None

    def lock(self) -> bool:
        """Makes this the only supervisor of its home; returns False when there already is one."""
        self._lock = supervision.lock_supervisor(self.temp)
        return self._lock is not None

    def watch(self) -> int:
        """Starts the server again whenever it ends, until nothing is left to watch (0) or that failed too often (1)."""
        while True:
            pid = supervision.find_server(self.temp)
            begun = time.monotonic()
            if pid:
                self._report(now="watching")
                self._wait_for_end(pid)
            if time.monotonic() - begun > SETTLED_S:
                self._delay = FIRST_DELAY_S
            if not self._can_be_found():
                return 0
            cause = self._cause(pid)
            self.log(f"the server (pid {pid}) ended: {cause}")
            self._report(cause=cause, ended=_format_time())
            code = self._start_again()
            if code is not None:
                return code
            self._delay = min(2 * self._delay, LONGEST_DELAY_S)

    def _start_again(self) -> int | None:
        """Tries to start the server until it runs; returns None, or an exit code if it is no longer to be watched."""
        failures = 0
        while True:
            self._report(now="waiting", next=_format_time(self._delay), failures=failures)
            time.sleep(self._delay)
            if not self._can_be_found():
                return 0
            self._report(now="restarting")
            code, output = self.run("scripts.torchserve.restart", *self.options.start_arguments())
            if code == 0:
                break
            if code == supervision.NOT_OURS:
                self.log("another server runs in this home, which `make start` did not start: nothing to watch")
                return 0
            failures += 1
            error = output or f"it ended with exit code {code} and no output"
            self._report(error=error)
            self.log(f"starting it again failed ({failures}): {error}")
            if failures >= MAX_FAILURES:
                self.log("giving up; `make start` starts the server and a new supervisor")
                self._report(now="gave up", failures=failures)
                return 1
            self._delay = min(2 * self._delay, LONGEST_DELAY_OF_FAILURES_S)
        self._report(restarts=self.state["restarts"] + 1, restarted=_format_time(), failures=0, error="")
        self.log(f"started again (pid {supervision.find_server(self.temp)})" + (f":\n{output}" if output else ""))
        self._log_read = self._log_size()
        return None

    def _can_be_found(self) -> bool:
        """Whether `make stop` can still find this process: not once its pid file has been removed."""
        with contextlib.suppress(OSError):
            if self._lock is not None:
                return os.path.samestat(os.fstat(self._lock), (self.temp / PID_FILE).stat())
        self.log(f"{self.temp} was removed, so `make stop` could not stop a server: nothing is started again")
        return False

    def run(self, module: str, *arguments: str) -> tuple[int, str]:
        """Runs a module in a process that ends with this one, and returns its exit code and the end of its output."""
        command = [sys.executable, "-m", module, *arguments]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
        )
        try:
            output, _ = child.communicate()
        except BaseException:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=CHILD_GRACE_S)
            child.kill()
            raise
        return child.returncode, output.decode(errors="replace").strip()[-2000:]

    def log(self, text: str) -> None:
        """Appends to logs/supervisor.log, of which one older part is kept; a full disk is not an error."""
        if self.foreground:
            print(text, flush=True)
        path = self.logs / LOG
        with contextlib.suppress(OSError):
            if path.exists() and path.stat().st_size > LOG_BYTES:
                path.rename(f"{path}.1")
            with path.open("a") as file:
                file.write(f"{_format_time()} {text}\n")

    def _report(self, **changes: object) -> None:
        self.state.update(changes)
        supervision.write_state(self.temp, self.state)

    def _wait_for_end(self, pid: int) -> None:
        """Waits until the server ends, and meanwhile revives models that TorchServe has given up."""
        check_after, next_check = CHECK_S, None
        for _ in _until_ended(pid, LOOK_S):
            if next_check is None and self._has_given_up():
                check_after = CHECK_S
                next_check = time.monotonic() + check_after
            elif next_check is not None and time.monotonic() > next_check:
                code, output = self.run("scripts.torchserve.recovery", *self.options.server_arguments())
                if output:
                    self.log(output)
                check_after = min(2 * check_after, LONGEST_CHECK_S)
                next_check = time.monotonic() + check_after if code else None
                self._log_read = self._log_size()

    def _log_size(self) -> int:
        try:
            return (self.logs / "ts_log.log").stat().st_size
        except OSError:
            return 0

    def _has_given_up(self) -> bool:
        """Whether TorchServe has logged, since the last look, that a model does not load."""
        size, read = self._log_size(), self._log_read
        self._log_read = size
        if size == read:
            return False
        with contextlib.suppress(OSError), (self.logs / "ts_log.log").open("rb") as file:
            # A smaller log has been rotated: it is read from its beginning.
            file.seek(max(read if size > read else 0, size - LOG_BYTES))
            return GIVEN_UP in file.read(LOG_BYTES)
        return False

    def _cause(self, pid: int) -> str:
        """Returns why the Java process ended, as far as its logs show; it is not a child, so it has no exit code."""
        if (self.home / f"hs_err_pid{pid}.log").exists():
            return f"Java crashed; see {self.home}/hs_err_pid{pid}.log"
        with contextlib.suppress(OSError), (self.logs / "console.log").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            for line in reversed(file.read().decode(errors="replace").splitlines()):
                # The launcher repeats vmargs, which name the error too, in a warning.
                if "OutOfMemoryError" in line and not line.startswith("Warning:"):
                    return line.strip()[:500]
        return "it left no message, as after `kill -9` or when the machine is out of memory"


def _until_ended(pid: int, every_s: float) -> Iterator[None]:
    """Yields every `every_s` seconds until a server has ended, and returns as soon as it has."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):  # an old kernel, or a sandbox without pidfd
        while supervision.is_server(pid):
            yield
            time.sleep(min(every_s, 1.0))
        return
    try:
        # By now the number may be another process's.
        while supervision.is_server(pid) and not select.select([handle], [], [], every_s)[0]:
            yield
    finally:
        os.close(handle)


def _format_time(later_s: float = 0) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + later_s))


def _notify_systemd(message: str) -> None:
    """Reports this service's state to systemd, if that started it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send(message.encode())


def _run_service(supervisor: Supervisor) -> int:
    """Starts the server, watches it, and stops it when this process is asked to end."""
    command = [sys.executable, "-m", "scripts.start", "--no-supervisor", *supervisor.options.start_arguments()]
    starting = subprocess.Popen(command, cwd=ROOT)
    try:
        if starting.wait() != 0:
            return 1
    except BaseException:
        starting.send_signal(signal.SIGTERM)
        starting.wait()
        raise
    try:
        if not supervisor.lock():
            print("error: another supervisor watches this server; `make stop` ends both", file=sys.stderr)
            return 1
        _notify_systemd("READY=1")
        return supervisor.watch()
    finally:
        _notify_systemd("STOPPING=1")
        supervisor.run("scripts.stop", *supervisor.options.server_arguments())


def supervise(options: StartOptions, *, foreground: bool) -> int:
    """Watches the server of a home until it is stopped, and returns the exit code.

    In the foreground, it starts the server first and stops it with this process, as a service manager expects.
    """
    supervisor = Supervisor(options, foreground=foreground)
    try:
        with raise_on_termination():
            if foreground:
                return _run_service(supervisor)
            return supervisor.watch() if supervisor.lock() else 0
    except FileNotFoundError as error:
        if Path(str(error.filename)) != supervisor.temp / PID_FILE:
            raise
        print(f"error: no server that `make start` started runs in {supervisor.home}", file=sys.stderr)
        return 1
    except Exception as error:
        # A process without a terminal has nowhere else to say it.
        supervisor.log(f"the supervisor failed: {error!r}")
        raise
    except Terminated as ended:
        # Ending when the service manager asks for it is not a failure.
        return 0 if foreground else ended.exit_code
