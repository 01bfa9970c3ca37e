"""docs/security.md names tests and attacks: each of them exists, and every attack is on the page."""

import ast
import re

from archive.repository import ROOT
from tests.attack.attacks import ATTACKS

PAGE = (ROOT / "docs" / "security.md").read_text()
QUOTED = set(re.findall(r"`([^`\n]+)`", PAGE))


def test_every_test_on_the_page_exists():
    cited = {name for name in QUOTED if re.fullmatch(r"test_\w+|Test\w+", name)}
    defined = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        defined |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert len(cited) > 40
    assert not cited - defined


def test_every_file_on_the_page_exists():
    files = {name for name in QUOTED if re.fullmatch(r"[\w./-]+\.(py|properties)", name)}
    assert files
    assert not [name for name in files if not (ROOT / name).is_file()]


def test_every_attack_is_on_the_page():
    # The last column of a table, where an attack has a hyphen and a test an underscore.
    cells = [line.rpartition(" | ")[2] for line in PAGE.splitlines() if line.startswith("| ")]
    cited = {name for cell in cells for name in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", cell)}
    names = {attack.name for attack in ATTACKS}
    assert names <= QUOTED
    assert not {name for name in cited if "-" in name} - names
