"""The peers' environments: made from requirements/, apart from `.venv`, and made again when a pin changes."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from archive.repository import BUILD

REQUIREMENTS = Path(__file__).with_name("requirements")
FOLDER = BUILD / "serving-peers"
# Written last: an environment without it is half made.
STAMP = "opserve-benchmark.txt"
COMMON, BENTOML, TRITON = "common", "bentoml", "triton"


def requirements(name: str) -> tuple[Path, Path]:
    """The direct requirements of an environment, and what they pull in."""
    return REQUIREMENTS / f"{name}.txt", REQUIREMENTS / f"{name}.constraints.txt"


def make(names: Iterable[str], say: Callable[[str], None] = print) -> tuple[dict[str, Path], dict[str, str]]:
    """Make the environments that are missing or not as pinned: the Python of each, and why any could not be made."""
    made, failed = {}, {}
    for name in names:
        try:
            made[name] = _make(name, say)
        except (OSError, subprocess.CalledProcessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            reasons = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip said nothing"]
            failed[name] = f"cannot be installed: {reasons[-1].removeprefix('ERROR: ')[:300]}"
            say(f"{name}: {failed[name]}")
    return made, failed


def _make(name: str, say: Callable[[str], None]) -> Path:
    folder, (direct, constraints) = FOLDER / name, requirements(name)
    python = folder / "bin" / "python"
    wanted = hashlib.sha256(direct.read_bytes() + constraints.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted and _runs(python):
        return python
    say(f"making {folder} (some minutes)")
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(folder))
    (torch,) = (line.split()[0] for line in direct.read_text().splitlines() if line.startswith("torch=="))
    pip = (str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", "-c", str(constraints))
    _run(*pip, torch)  # first: what follows depends on it
    _run(*pip, "-r", str(direct))
    stamp.write_text(wanted)
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
    """The versions of packages in an environment; those that are not installed are left out."""
    code = (
        "import importlib.metadata as m, json, sys\n"
        "print(json.dumps({d.name.lower(): d.version for d in m.distributions() if d.name.lower() in sys.argv[1:]}))"
    )
    return json.loads(_run(str(python), "-c", code, *distributions))
