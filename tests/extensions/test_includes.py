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


def fault(path: Path, quoted: bool, name: str) -> str | None:
    """Returns what is wrong with an include, or none."""
    if not quoted:
        return "ours, so it is included in quotes" if name.startswith("opserve") else None
    if name.startswith("opserve/"):
        return None if (EXTENSIONS / "include" / name).is_file() else "not a public header"
    return None if "/" not in name and (path.parent / name).is_file() else "a private header of another room"


def test_a_room_includes_its_own_headers_and_public_ones() -> None:
    included = [(path, *include) for path in SOURCES for include in includes(path)]
    assert len(included) > 300
    assert [(str(path), name, wrong) for path, quoted, name in included if (wrong := fault(path, quoted, name))] == []


# Of each runtime, the folder of its headers and the rooms that may include them.
RUNTIMES = {
    r"(torch|ATen|c10)/": ("bindings/torch", "bindings/autograd", "bindings/pybind", "native"),
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
