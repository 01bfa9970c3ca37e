"""What a library file shows of itself: what it needs, and the machine that built it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from archive.repository import ROOT


def read_tool(*command: object) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


def assert_needs_only(library: Path, *names: str) -> set[str]:
    """Libraries of these names, as regular expressions, and the system's; and no search path. What it needs."""
    dynamic = read_tool("readelf", "-d", library)
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    named = "|".join((r"stdc\+\+", "gcc_s", "m", "c", "pthread", "dl", *names))
    allowed = rf"lib({named})\.so(\.\d+)?|ld-linux.*"
    assert {name for name in needed if not re.fullmatch(allowed, name)} == set()
    return needed


def assert_holds_no_path(library: Path, *others: str) -> None:
    """Of the machine that built it, and none of the other texts."""
    content = library.read_bytes()
    here = (ROOT, sys.prefix, f"{Path.home()}/", Path(torch.__file__).resolve().parent)
    for text in (*map(str, here), *others):
        assert text.encode() not in content, text
