"""Watches one server and starts it again when it ends without having been asked to.

`make start` leaves one of these behind the server it has started; `make stop` ends it before the server. It waits for
the end of the Java process without polling, and has the work done by other scripts, so it is small: standard library
only. With --foreground it starts the server itself and stops it when it is asked to end, as a service manager wants it.
"""

import sys

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from archive.process.signals import Terminated, raise_on_termination
from archive.repository import ROOT
from scripts.torchserve.temp_folder import find_temp_folder

# In the server's temporary folder. The first is locked by the supervisor for as long as it lives.
PID_FILE, STATE_FILE, SERVER_PID_FILE = "supervisor.pid", "supervisor.json", ".model_server.pid"
FRONTEND = b"org.pytorch.serve.ModelServer"
LOG, LOG_BYTES = "supervisor.log", 1 << 20
# Seconds to the next try, doubled each time: at most the first after a start that worked, the second after one that
# did not. A server that has lived for SETTLED_S begins anew.
FIRST_DELAY_S, LONGEST_DELAY_S, LONGEST_DELAY_OF_FAILURES_S, SETTLED_S = 0.5, 30.0, 300.0, 300.0
# Starts that fail one after the other, over more than an hour, before it gives up.
MOST_FAILURES = 20
# How often it looks whether TorchServe has reported a model that does not load, and how soon that is looked into again.
LOOK_S, CHECK_S, LONGEST_CHECK_S = 15.0, 60.0, 300.0
NOT_LOADING = b"Auto recovery failed again"
# What restart.py ends with where a server that `make start` has not started runs in the home.
NOT_OURS = 4
# For what it has done by another script: a start waits for its models, 300 seconds unless told otherwise.
CHILD_GRACE_S = 60.0


class Supervisor:
    """The watch over the server of one home folder."""

    def __init__(self, home: Path, arguments: list[str], foreground: bool) -> None:
        self.home, self.temp, self.foreground = home, find_temp_folder(home), foreground
        # Those of start.py, with which the server was started and is started again.
        self.arguments = arguments
        self.logs = home / "logs"
        self.state = {"pid": os.getpid(), "now": "watching", "restarts": 0, "failures": 0, "restarted": "", "cause": ""}
        self._seen = self._log_size()
        self._lock: int | None = None

    def lock(self) -> bool:
        """Become the only supervisor of this home; False when there is one already."""
        self._lock = lock(self.temp)
        return self._lock is not None

    def watch(self) -> int:
        """Start the server again whenever it ends; returns only when that has failed too often."""
        delay = FIRST_DELAY_S
        while True:
            pid = server_pid(self.temp)
            begun = time.monotonic()
            if pid:
                self._tell(now="watching")
                self._wait_for_end(pid)
            if time.monotonic() - begun > SETTLED_S:
                delay = FIRST_DELAY_S
            if not self._in_charge():
                return 0
            cause = self._cause(pid)
            self.log(f"the server (pid {pid}) ended: {cause}")
            self._tell(cause=cause, ended=now())
            failures = 0
            while True:
                self._tell(now="waiting", next=now(delay), failures=failures)
                time.sleep(delay)
                if not self._in_charge():
                    return 0
                self._tell(now="restarting")
                code, said = self.run("restart.py", *self.arguments)
                if code == 0:
                    break
                if code == NOT_OURS:
                    self.log("another server runs in this home, which `make start` has not started: nothing to watch")
                    return 0
                failures += 1
                error = said.strip()[-2000:] or f"restart.py ended with {code} and without a word"
                self._tell(error=error)
                self.log(f"starting it again failed ({failures}): {error}")
                if failures >= MOST_FAILURES:
                    self.log("giving up; `make start` starts the server, and a supervisor")
                    self._tell(now="gave up", failures=failures)
                    return 1
                delay = min(2 * delay, LONGEST_DELAY_OF_FAILURES_S)
            self._tell(restarts=self.state["restarts"] + 1, restarted=now(), failures=0, error="")
            self.log(f"started again (pid {server_pid(self.temp)})" + (f":\n{said.strip()}" if said.strip() else ""))
            self._seen = self._log_size()
            delay = min(2 * delay, LONGEST_DELAY_S)

    def _in_charge(self) -> bool:
        """Whether `make stop` could still find this process: not when somebody has removed the folder."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._lock), (self.temp / PID_FILE).stat())
        self.log(f"{self.temp} is gone, and with it what a server could be stopped by: nothing is started again")
        return False

    def run(self, script: str, *arguments: str) -> tuple[int, str]:
        """Run one of scripts/ and return its exit code and what it wrote; it is ended with this process."""
        command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.home
        )
        try:
            said, _ = child.communicate()
        except BaseException:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=CHILD_GRACE_S)
            child.kill()
            raise
        return child.returncode, said.decode(errors="replace")

    def log(self, text: str) -> None:
        """Append to logs/supervisor.log, of which one older part is kept; a full disk is no reason to end."""
        if self.foreground:
            print(text, flush=True)
        path = self.logs / LOG
        with contextlib.suppress(OSError):
            if path.exists() and path.stat().st_size > LOG_BYTES:
                path.rename(f"{path}.1")
            with path.open("a") as file:
                file.write(f"{now()} {text}\n")

    def _tell(self, **changes: object) -> None:
        self.state.update(changes)
        path = self.temp / STATE_FILE
        new = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(self.state))
            new.replace(path)

    def _wait_for_end(self, pid: int) -> None:
        next_check = check_after = None
        for _ in ends(pid, LOOK_S):
            if next_check is None and self._reported_not_loading():
                check_after = CHECK_S
                next_check = time.monotonic() + check_after
            elif next_check is not None and time.monotonic() > next_check:
                code, said = self.run("recovery.py", *self.server_arguments())
                if said.strip():
                    self.log(said.strip()[-2000:])
                check_after = min(2 * check_after, LONGEST_CHECK_S)
                next_check = time.monotonic() + check_after if code else None
                self._seen = self._log_size()

    def server_arguments(self) -> list[str]:
        """Those of the arguments by which every script finds its server."""
        found: list[str] = []
        for option in ("--home", "--config", "--model-store"):
            if option in self.arguments:
                found += [option, self.arguments[self.arguments.index(option) + 1]]
        return found

    def _log_size(self) -> int:
        try:
            return (self.logs / "ts_log.log").stat().st_size
        except OSError:
            return 0

    def _reported_not_loading(self) -> bool:
        size, seen = self._log_size(), self._seen
        self._seen = size
        if size == seen:
            return False
        with contextlib.suppress(OSError), (self.logs / "ts_log.log").open("rb") as file:
            # Cut at 100 MB: then it is read from its beginning.
            file.seek(max(seen if size > seen else 0, size - LOG_BYTES))
            return NOT_LOADING in file.read(LOG_BYTES)
        return False

    def _cause(self, pid: int) -> str:
        """Why the Java process ended, as far as it has left a trace; it is no child, so there is no exit code."""
        if (self.home / f"hs_err_pid{pid}.log").exists():
            return f"Java crashed; {self.home}/hs_err_pid{pid}.log says where"
        with contextlib.suppress(OSError), (self.logs / "console.log").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 65536))
            for line in reversed(file.read().decode(errors="replace").splitlines()):
                # The settings that TorchServe's launcher repeats name the error too.
                if "OutOfMemoryError" in line and not line.startswith("Warning:"):
                    return line.strip()[:500]
        return "without a last word, as after `kill -9`, or when the kernel is out of memory"


def lock(temp: Path) -> int | None:
    """Take the lock of a home's only supervisor and write the pid beside it; None when somebody has it."""
    handle = os.open(temp / PID_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.truncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def supervisor_pid(temp: Path) -> int | None:
    """The process that supervises the server with this temporary folder, if one does."""
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


def state(temp: Path) -> dict[str, object]:
    """What the supervisor has written of itself last; empty when nothing can be read."""
    with contextlib.suppress(OSError, ValueError), (temp / STATE_FILE).open() as file:
        found = json.load(file)
        if isinstance(found, dict):
            return found
    return {}


def server_pid(temp: Path) -> int:
    """The Java process that the server's pid file names; 0 when it does not run."""
    with contextlib.suppress(OSError, ValueError), (temp / SERVER_PID_FILE).open() as file:
        pid = int(file.read())
        return pid if _is_server(pid) else 0
    return 0


def _is_server(pid: int) -> bool:
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/cmdline").open("rb") as file:
        return FRONTEND in file.read()
    return False


def ends(pid: int, every_s: float) -> Iterator[None]:
    """Yields every so many seconds until a process has ended, which is noticed at once."""
    try:
        handle = os.pidfd_open(pid)
    except (OSError, AttributeError) as error:
        if isinstance(error, ProcessLookupError):
            return
        # An old kernel, or a sandbox without it.
        while _is_server(pid):
            yield
            time.sleep(min(every_s, 1.0))
        return
    try:
        # The number may have been given to another process since.
        while _is_server(pid) and not select.select([handle], [], [], every_s)[0]:
            yield
    finally:
        os.close(handle)


def now(later_s: float = 0) -> str:
    """The time, or a later one, as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + later_s))


def notify(message: str) -> None:
    """Tell systemd, where it started this process, how far it is."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.send(message.encode())


def serve_in_foreground(supervisor: Supervisor) -> int:
    """Start the server, watch it, and stop it when this process is asked to end."""
    start = [sys.executable, str(ROOT / "scripts" / "start.py"), "--no-supervisor", *supervisor.arguments]
    started = subprocess.Popen(start)
    try:
        if started.wait() != 0:
            return 1
    except BaseException:
        started.send_signal(signal.SIGTERM)
        started.wait()
        raise
    try:
        if not supervisor.lock():
            print("error: another supervisor watches this server; `make stop` ends both", file=sys.stderr)
            return 1
        notify("READY=1")
        return supervisor.watch()
    finally:
        notify("STOPPING=1")
        supervisor.run("stop.py", *supervisor.server_arguments())


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="All other arguments are those of scripts/start.py.", allow_abbrev=False
    )
    parser.add_argument("--foreground", action="store_true", help="start the server, and stop it with this process")
    parser.add_argument("--home", type=Path, default=ROOT, help="folder the server runs in (this repository)")
    options, rest = parser.parse_known_args(arguments)
    home = options.home.resolve()
    supervisor = Supervisor(home, ["--home", str(home), *rest], options.foreground)
    try:
        with raise_on_termination():
            if options.foreground:
                return serve_in_foreground(supervisor)
            return supervisor.watch() if supervisor.lock() else 0
    except FileNotFoundError as error:
        if str(error.filename) != str(supervisor.temp / PID_FILE):
            raise
        print(f"error: no server that `make start` has started runs in {home}", file=sys.stderr)
        return 1
    except Exception as error:
        # Nobody reads what a process without a terminal would print.
        supervisor.log(f"the supervisor ended: {error!r}")
        raise
    except Terminated as ended:
        # What a service manager asked for is no failure.
        return 0 if options.foreground else ended.exit_code


if __name__ == "__main__":
    sys.exit(main())
