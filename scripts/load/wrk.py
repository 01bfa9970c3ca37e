"""Runs wrk: a fixed number of connections, each of which sends a request when its last one is answered."""

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
# Added to the time that wrk is to run, until it is killed.
GRACE_S = 30
SOCKET_ERRORS = ("connect", "read", "write", "timeout")


def require() -> str:
    """Returns the path of wrk.

    Raises:
        OpserveError: it is not installed; the message says how to install it.
    """
    found = shutil.which("wrk")
    if found is None:
        raise OpserveError(
            "wrk, which makes the load, is not installed; Debian, Ubuntu: apt install wrk; "
            "Fedora: dnf install wrk; elsewhere: https://github.com/wg/wrk"
        )
    return found


def parse(text: str, cpu_seconds: float, threads: int) -> Load:
    """Parses the result that wrk.lua wrote.

    Raises:
        OpserveError: it is anything else.
    """
    try:
        result = json.loads(text)
        requests, seconds = int(result["requests"]), result["duration_us"] / 1e6
        errors = {kind: result[kind] for kind in SOCKET_ERRORS if result[kind]}
        bad = {code: count for code, count in result["codes"].items() if int(code) >= 400}
        # Without codes only the number of errors is known.
        errors |= bad or ({"status": result["status"]} if result["status"] else {})
        latency = [float(value) for value in result["latency_us"]] if requests else []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OpserveError(f"wrk did not report a measurement ({error!r}): {text[:200]!r}") from None
    seconds = max(seconds, 1e-9)
    return Load(requests, seconds, latency, errors, cpu_seconds / seconds / threads)


def load(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    connections: int,
    seconds: float,
    threads: int = 1,
    *,
    codes: bool = False,
) -> Load:
    """Sends a request again and again.

    Args:
        url: where to send it.
        body: the body of the POST.
        headers: the headers of the POST, without line breaks.
        connections: at a time, over all threads.
        seconds: how long; wrk takes whole seconds.
        threads: threads of wrk.
        codes: whether to count answers by status, which costs wrk some time for each of them.

    Raises:
        OpserveError: wrk is not installed, or failed.
    """
    command = [require(), "-t", str(threads), "-c", str(connections), "-d", f"{max(1, round(seconds))}s"]
    command += ["--timeout", f"{TIMEOUT_S}s", "-s", str(SCRIPT), url]
    with tempfile.TemporaryDirectory(prefix="opserve-wrk-") as folder:
        files = {name: Path(folder, name) for name in ("body", "headers", "result")}
        files["body"].write_bytes(body)
        files["headers"].write_text("".join(f"{name}: {value}\n" for name, value in headers.items()))
        # The headers contain a token; only this user can read the folder.
        variables = {f"LOADTEST_{name.upper()}": str(path) for name, path in files.items()}
        variables["LOADTEST_CODES"] = "1" if codes else "0"
        output, status, cpu_seconds = _run(command, os.environ | variables, seconds + GRACE_S)
        if status or not files["result"].is_file():
            raise OpserveError(f"wrk ended with status {status}: {output.strip()[-500:] or '(no output)'}")
        return parse(files["result"].read_text(), cpu_seconds, threads)


def _run(command: list[str], environment: Mapping[str, str], limit: float) -> tuple[str, int, float]:
    """Runs a command; returns its output, its exit status, and the processor time that it used."""
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
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        raise OpserveError(f"wrk did not end after {limit:.0f} s") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return output, process.returncode, used
