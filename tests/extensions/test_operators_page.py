"""docs/operators.md: every operator is on it with its schema, every file it names exists, and its excerpts are true."""

import re

import torch

from archive.repository import ROOT
from opserve_ops._operator import OPERATORS

PAGE = ROOT / "docs" / "operators.md"
TEXT = PAGE.read_text()
# A block of code says after its language which file it is from.
EXCERPTS = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


SIGNATURES = re.findall(r"`(\w+\([^`]*\) -> [^`]+)`", TEXT)


def squeezed(text: str) -> str:
    """Without the backslashes that join lines, and with every run of blanks as one."""
    return " ".join(text.replace("\\\n", "\n").split())


def test_every_operator_is_on_the_page_with_its_schema() -> None:
    registered = {
        str(getattr(torch.ops.opserve, name.removeprefix("opserve::")).default._schema)
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("opserve::") and not name.startswith("opserve::_")
    }
    assert len(registered) >= 7
    # PyTorch writes a number in its own way.
    on_the_page = {str(torch._C.parse_schema(f"opserve::{signature}")) for signature in SIGNATURES}
    assert on_the_page == registered


def test_every_operator_is_on_the_page_with_its_name_in_onnx() -> None:
    rows = dict(re.findall(r"^\| `(\w+)\(.*?` \| `(\w+)` \|", TEXT, re.MULTILINE))
    assert rows == {operator.name: operator.onnx for operator in OPERATORS if operator.onnx}


def test_every_file_on_the_page_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert len(links) > 20
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_every_anchor_on_the_page_is_a_heading_of_it() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings


def test_every_excerpt_is_in_its_file() -> None:
    assert len(EXCERPTS) >= 10
    for name, excerpt in EXCERPTS:
        content = squeezed((ROOT / name).read_text())
        # An entry of a table or of a file may be one of several: each line must be there, in this order.
        at = 0
        for line in filter(None, map(squeezed, excerpt.splitlines())):
            found = content.find(line, at)
            assert found >= 0, f"{name} has no {line!r} there; the page is to show the file as it is"
            at = found + len(line)


def test_the_files_of_the_example_are_those_of_the_operator() -> None:
    """The table of the example names every file with the operator's name."""
    named = {
        path.relative_to(ROOT).as_posix()
        for folder in ("extensions", "tests/extensions")
        for path in (ROOT / folder).rglob("*gcn_norm*")
        if path.suffix in (".h", ".cpp", ".cu", ".py")
    }
    assert {name for name in named if f"](../{name})" not in TEXT} == set()
