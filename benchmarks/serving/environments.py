"""The peers' environments: installed from requirements/, apart from `.venv`, and again when a pin changes."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from archive.repository import BUILD

REQUIREMENTS = Path(__file__).with_name("requirements")
CONSTRAINTS = REQUIREMENTS / "constraints.txt"
FOLDER = BUILD / "serving-peers"
# Written last: an environment without it is incomplete.
STAMP = "opserve-benchmark.txt"
COMMON, BENTOML, TRITON = "common", "bentoml", "triton"


def requirements(name: str) -> Path:
    """The file of an environment's direct requirements."""
    return REQUIREMENTS / f"{name}.txt"


def install(names: Iterable[str], report: Callable[[str], None] = print) -> tuple[dict[str, Path], dict[str, str]]:
    """Installs the environments that are missing or not as pinned.

    Returns:
        The Python of each environment, and for those that could not be installed the reason.
    """
    pythons, failures = {}, {}
    for name in names:
        try:
            pythons[name] = _install(name, report)
        except (OSError, subprocess.CalledProcessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            reasons = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip printed nothing"]
            failures[name] = f"cannot be installed: {reasons[-1].removeprefix('ERROR: ')[:300]}"
            report(f"{name}: {failures[name]}")
    return pythons, failures


def _install(name: str, report: Callable[[str], None]) -> Path:
    folder, direct = FOLDER / name, requirements(name)
    python = folder / "bin" / "python"
    pinned = hashlib.sha256(direct.read_bytes() + CONSTRAINTS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == pinned and _runs(python):
        return python
    report(f"installing {folder} (a few minutes)")
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    (torch,) = (line.split()[0] for line in direct.read_text().splitlines() if line.startswith("torch=="))
    pip = (str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", "-c", str(CONSTRAINTS))
    _run(*pip, torch)  # first: what follows depends on it
    _run(*pip, "-r", str(direct))
    stamp.write_text(pinned)
    return python


def _runs(python: Path) -> bool:
    try:
        return subprocess.run([str(python), "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout


def versions(python: Path, distributions: Iterable[str]) -> dict[str, str]:
    """Reads the versions of those packages that are installed in an environment."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "print(json.dumps({d.name.lower(): d.version for d in m.distributions() if d.name.lower() in sys.argv[1:]}))"
    )
    return json.loads(_run(str(python), "-c", code, *distributions))
