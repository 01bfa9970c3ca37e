"""Finds the Java that TorchServe's frontend runs on, without `.venv`: by the standard library only."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from archive.repository import ROOT

MINIMUM = 17


class Java(NamedTuple):
    """A Java runtime: what `JAVA_HOME` must be, its major version, and where it was found."""

    home: Path
    version: int
    origin: str


def version_of(executable: Path) -> "int | None":
    """The major version that `java -version` reports, or None when it does not run."""
    try:
        shown = subprocess.run(
            [str(executable), "-version"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=True,
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', shown)
    return int(found.group(1)) if found else None


def home_of(executable: Path) -> Path:
    """The folder that holds `bin/java`, with the links of `/usr/bin` and `.venv/bin` followed."""
    return executable.resolve().parents[1]


def find(root: Path = ROOT):
    """Return (Java or None, remarks): JAVA_HOME first, then PATH, then the runtime that `make env` linked.

    A remark says in words why a candidate that a person set on purpose was passed over.
    """
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"]) / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(("PATH", Path(on_path)))
    candidates.append((".venv/bin/java", root / ".venv" / "bin" / "java"))
    remarks = []
    for origin, executable in candidates:
        version = version_of(executable)
        if version is not None and version >= MINIMUM:
            return Java(home_of(executable), version, origin), remarks
        if origin == "JAVA_HOME":
            reason = "has no bin/java that runs" if version is None else f"is Java {version}"
            remarks.append(f"JAVA_HOME={os.environ['JAVA_HOME']} {reason}; ignored, because TorchServe needs {MINIMUM}")
        elif origin == "PATH" and version is not None:
            remarks.append(f"{executable} is Java {version}, older than {MINIMUM}: ignored")
    return None, remarks
