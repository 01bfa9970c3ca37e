"""What the rooms of extensions/ include: their own headers and public ones, and a runtime only where it is bound."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.repository import ROOT

EXTENSIONS = ROOT / "extensions"
# A room is a folder. The tests are in none: they look inside.
SOURCES = [
    path
    for path in sorted(EXTENSIONS.rglob("*"))
    if path.suffix in (".h", ".cpp", ".cu") and path.relative_to(EXTENSIONS).parts[0] != "tests"
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def includes(path: Path) -> Iterator[tuple[bool, str]]:
    """Yields whether a header is named in quotes, and its name."""
    for mark, name in INCLUDE.findall(path.read_text()):
        yield mark == '"', name


# The native worker is a house with rooms of its own, each with those that it may know. What lies at the top knows all
# but the server; the headers `config.h` and, for the server, `model.h` and `selfcheck.h` are there.
NATIVE = EXTENSIONS / "native"
CONFIG = NATIVE / "config.h"
KNOWS = {
    "common": set(),
    "signature": {"common"},
    "codecs": {"common", "signature"},
    "batching": {"common", "signature", CONFIG},
    "engines": {"common", "signature", CONFIG},
    "integrity": {"common"},
    "torchserve": {"common", "codecs", "integrity", NATIVE / "model.h", NATIVE / "selfcheck.h"},
    "": {"common", "signature", "codecs", "batching", "engines", "integrity"},
}
# A program for tests.
EXEMPT = {NATIVE / "codecs/decode_tool.cpp"}


def fault(path: Path, quoted: bool, name: str) -> str | None:
    """Returns what is wrong with an include, or none."""
    if not quoted:
        return "ours, so it is included in quotes" if name.startswith("opserve") else None
    if name.startswith("opserve/"):
        return None if (EXTENSIONS / "include" / name).is_file() else "not a public header"
    if NATIVE in path.parents:
        return fault_in_worker(path, (path.parent / name).resolve())
    return None if "/" not in name and (path.parent / name).is_file() else "a private header of another room"


def room(path: Path) -> str:
    """Returns the room of a file of the native worker: the first folder."""
    parts = path.relative_to(NATIVE).parts
    return parts[0] if len(parts) > 1 else ""


def fault_in_worker(path: Path, header: Path) -> str | None:
    if not header.is_file() or NATIVE not in header.parents:
        return "not a header of the worker's"
    known = KNOWS[room(path)]
    if room(header) == room(path) or header in known or path in EXEMPT:
        return None
    return None if room(header) and room(header) in known else "a header of a room that this one does not know"


def test_a_room_includes_its_own_headers_and_public_ones() -> None:
    included = [(path, *include) for path in SOURCES for include in includes(path)]
    assert len(included) > 300
    assert [(str(path), name, wrong) for path, quoted, name in included if (wrong := fault(path, quoted, name))] == []


# Of each runtime, the folder of its headers and the rooms that may include them.
RUNTIMES = {
    r"(torch|ATen|c10|caffe2)/": (
        *("bindings/torch", "bindings/autograd", "bindings/pybind"),
        # opserve_run, and the engine that it shares with the worker.
        *("native", "native/engines/torch"),
    ),
    r"cuda": ("kernels/cuda",),
    r"(onnxruntime|pybind11|Python)": (),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_is_known_only_where_it_is_bound(runtime: str) -> None:
    rooms = {
        str(path.relative_to(EXTENSIONS).parent)
        for path in SOURCES
        for quoted, name in includes(path)
        if not quoted and re.match(runtime, name)
    }
    assert rooms == set(RUNTIMES[runtime])
