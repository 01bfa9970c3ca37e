"""Runs wrk: a fixed number of connections, each sending its next request when the last one is answered."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from archive.errors import OpserveError
from scripts.load.result import Load

SCRIPT = Path(__file__).with_suffix(".lua")
TIMEOUT_S = 60
# Beyond the time that wrk is told, until it is given up.
GRACE_S = 30
SOCKET_ERRORS = ("connect", "read", "write", "timeout")


def require() -> str:
    """The path of wrk, or an error that says where it comes from."""
    found = shutil.which("wrk")
    if found is None:
        raise OpserveError(
            "wrk is not installed, which makes the load; Debian, Ubuntu: apt install wrk; "
            "Fedora: dnf install wrk; elsewhere: https://github.com/wg/wrk"
        )
    return found


def parse(text: str, cpu_seconds: float, threads: int) -> Load:
    """Read what load/wrk.lua wrote.

    Raises:
        OpserveError: it is not that.
    """
    try:
        said = json.loads(text)
        requests, seconds = int(said["requests"]), said["duration_us"] / 1e6
        errors = {kind: said[kind] for kind in SOCKET_ERRORS if said[kind]}
        bad = {code: count for code, count in said["codes"].items() if int(code) >= 400}
        # Without the codes only their number is known.
        errors |= bad or ({"status": said["status"]} if said["status"] else {})
        latency = [float(value) for value in said["latency_us"]] if requests else []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OpserveError(f"wrk did not say what it measured ({error!r}): {text[:200]!r}") from None
    seconds = max(seconds, 1e-9)
    return Load(requests, seconds, latency, errors, cpu_seconds / seconds / threads)


def load(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    threads: int = 1,
    codes: bool = False,
) -> Load:
    """Send one request over and over.

    Args:
        url: where to.
        body, headers: of the POST; no header may hold a line break.
        connections: at a time, over all threads.
        seconds: how long; whole seconds, since wrk knows no others.
        threads: of wrk.
        codes: count answers by status, which costs wrk some time for each of them.

    Raises:
        OpserveError: wrk is not installed, or ended otherwise than by having measured.
    """
    command = [require(), "-t", str(threads), "-c", str(connections), "-d", f"{max(1, round(seconds))}s"]
    command += ["--timeout", f"{TIMEOUT_S}s", "-s", str(SCRIPT), url]
    with tempfile.TemporaryDirectory(prefix="opserve-wrk-") as folder:
        files = {name: Path(folder, name) for name in ("body", "headers", "result")}
        files["body"].write_bytes(body)
        files["headers"].write_text("".join(f"{name}: {value}\n" for name, value in headers.items()))
        # The token in it is nobody else's business; the folder is this user's alone.
        variables = {f"LOADTEST_{name.upper()}": str(path) for name, path in files.items()}
        variables["LOADTEST_CODES"] = "1" if codes else "0"
        said, status, cpu_seconds = _run(command, os.environ | variables, seconds + GRACE_S)
        if status or not files["result"].is_file():
            raise OpserveError(f"wrk ended with status {status}: {said.strip()[-500:] or '(it said nothing)'}")
        return parse(files["result"].read_text(), cpu_seconds, threads)


def _run(command: list[str], environment: Mapping[str, str], limit: float) -> tuple[str, int, float]:
    """What a command said, its exit status, and the processor time it used."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    before = os.times()
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise OpserveError(f"wrk did not end after {limit:.0f} s") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return said, process.returncode, used
