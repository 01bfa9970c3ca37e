"""Finds the Java that TorchServe's frontend runs on; standard library only, since it also runs without a `.venv`."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from archive.repository import ROOT

MINIMUM_VERSION = 17


class Java(NamedTuple):
    """A Java runtime: the value for `JAVA_HOME`, its major version, and where it was found."""

    home: Path
    version: int
    origin: str


def read_version(executable: Path) -> "int | None":
    """The major version that `java -version` reports, or None if it does not run."""
    try:
        output = subprocess.run(
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
    found = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(found.group(1)) if found else None


def find_java(root: Path = ROOT) -> "tuple[Java | None, list[str]]":
    """Looks for Java in JAVA_HOME, then on PATH, then where `make env` links one.

    Returns:
        The first that is new enough, and a remark on each that is set or on PATH but was passed over.
    """
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"]) / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(("PATH", Path(on_path)))
    candidates.append((".venv/bin/java", root / ".venv" / "bin" / "java"))
    remarks = []  # type: list[str]
    for origin, executable in candidates:
        version = read_version(executable)
        if version is not None and version >= MINIMUM_VERSION:
            # /usr/bin/java and .venv/bin/java are links to HOME/bin/java.
            return Java(executable.resolve().parents[1], version, origin), remarks
        if origin == "JAVA_HOME":
            reason = "has no bin/java that runs" if version is None else f"is Java {version}"
            needed = f"ignored, because TorchServe needs {MINIMUM_VERSION}"
            remarks.append(f"JAVA_HOME={os.environ['JAVA_HOME']} {reason}; {needed}")
        elif origin == "PATH" and version is not None:
            remarks.append(f"{executable} is Java {version}, older than {MINIMUM_VERSION}: ignored")
    return None, remarks
