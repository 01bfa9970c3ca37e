"""Which room may import which, as docs/architecture.md has it; and how docstrings are written."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from archive.repository import ROOT, find_models

OURS = ("archive", "benchmarks", "handlers", "opserve_ops", "scripts", "tests")
HANDLER = "handlers/opserve_handler.py"
# What the modules under a folder must not import: the longest folder that applies counts.
FORBIDDEN = {
    "handlers": ("archive", "benchmarks", "opserve_ops", "scripts", "tests"),
    "handlers/engines": (
        *("archive", "benchmarks", "opserve_ops", "scripts", "tests"),
        *("handlers.codecs", "handlers.torchserve", "handlers.opserve_handler", "handlers.model"),
    ),
    "handlers/torchserve": (
        *("archive", "benchmarks", "opserve_ops", "scripts", "tests"),
        *("handlers.opserve_handler", "handlers.model", "handlers.engines"),
    ),
    "archive": ("benchmarks", "scripts", "tests"),
    "archive/process": ("archive.building", "archive.packer", "benchmarks", "scripts", "tests"),
    "archive/building": ("archive.packer", "benchmarks", "scripts", "tests"),
    **{
        f"archive/{path.parent.name}": ("archive.packer", "benchmarks", "scripts", "tests")
        for path in find_models().values()
    },
    "scripts": ("benchmarks", "tests"),
    "scripts/torchserve": ("benchmarks", "scripts.load", "scripts.setup", "tests"),
    "benchmarks": ("tests",),
    "extensions": ("archive", "benchmarks", "handlers", "scripts", "tests"),
}
# Imports of the commands in scripts/, which only each other's tests and commands may use.
COMMANDS = {f"scripts.{path.stem}" for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__"}
PACKING = {"archive.describe", "archive.keys", "archive.pack", "archive.verify"}
STANDARD = frozenset(sys.stdlib_module_names)
# Third-person verbs are descriptive; these are what a docstring in the imperative begins with.
IMPERATIVE = frozenset(
    "Add Apply Ask Assert Begin Bring Build Change Choose Clear Close Collect Compare Compute Convert Copy Count "
    "Create Cut Decide Declare Decode Define Delete Describe Divide Do Draw Drop Encode End Ensure Export Find "
    "Finish Follow Forget Generate Get Give Handle Have Import Initialize Install Join Keep Kill Leave List Load "
    "Log Look Make Measure Move Note Pack Parse Pass Post Prepare Print Put Raise Read Record Refuse "
    "Register Remember Remove Replace Reply Reset Restore Return Run Save Say Scale Send Serve Show Sign Split "
    "Start Stop Store Take Tell Terminate Train Translate Try Turn Undo Unpack Unregister Update Verify Wait "
    "Watch Write Yield".split()
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every Python module of the repository with its path, except the peers of the benchmarks, which stand alone."""
    for folder in ("archive", "benchmarks", "extensions/opserve_ops", "handlers", "scripts", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("benchmarks/serving/peers/") and "templates/" not in name:
                yield name, ast.parse(path.read_text(), name)


MODULES = dict(modules())


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that a module may import, in whatever function; `from a import b` may be the module `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def test_imports_point_one_way():
    assert not {name: wrong for name in MODULES if (wrong := wrong_imports(name))}


def wrong_imports(name: str) -> set[str]:
    room = max((folder for folder in FORBIDDEN if name.startswith(f"{folder}/")), key=len, default=None)
    wrong = {module for module in imported(MODULES[name]) for other in FORBIDDEN.get(room, ()) if within(module, other)}
    if name != HANDLER and not name.startswith(("handlers/torchserve/", "tests/", "benchmarks/")):
        wrong |= {module for module in imported(MODULES[name]) if within(module, "ts")}
    if name.startswith("scripts/") and name.count("/") > 1:
        wrong |= {module for module in imported(MODULES[name]) if module in COMMANDS}
    return wrong


def test_the_check_of_an_archive_needs_the_standard_library_only():
    allowed = STANDARD | {"handlers.errors", "handlers.integrity"}
    for name, tree in MODULES.items():
        if name.startswith("handlers/integrity/"):
            at_once = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
            assert all(any(within(module, room) for room in allowed) for module in imported(at_once)), name
            # Only where a key is set, and where a library requires a certain version.
            assert {module.partition(".")[0] for module in imported(tree)} <= STANDARD | {
                *("handlers", "cryptography", "onnxruntime", "torch")
            }, name


def test_the_codecs_know_errors_and_the_signature_and_form_no_cycle():
    paths = {name.removesuffix(".py").replace("/", "."): name for name in MODULES}
    codecs = {module for module, path in paths.items() if path.startswith("handlers/codecs/")}
    uses = {module: paths.keys() & set(imported(MODULES[paths[module]])) for module in codecs}
    assert set().union(*uses.values()) <= codecs | {"handlers.errors", "handlers.signature"}
    TopologicalSorter(uses).prepare()  # raises CycleError


def test_every_import_of_ours_exists():
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in OURS[:-1]:
                path = (
                    ROOT
                    / ("extensions" if node.module.startswith("opserve_ops") else "")
                    / node.module.replace(".", "/")
                )
                assert path.is_dir() or path.with_suffix(".py").is_file(), f"{name}: {node.module}"


def test_docstrings_describe():
    """Google's style allows "Returns the …" and "Return the …"; here it is the first."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = {
        f"{name}:{getattr(node, 'lineno', 1)}": (ast.get_docstring(node) or "-").split(maxsplit=1)[0]
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, documented)
    }
    assert not {where: word for where, word in first.items() if word in IMPERATIVE}


def test_a_command_is_short():
    """Arguments, and a call of the toolkit."""
    for command in sorted(COMMANDS | PACKING):
        name = f"{command.replace('.', '/')}.py"
        if name == "scripts/grpc_client.py":  # a client in a page, for people to read
            continue
        code = [line for line in (ROOT / name).read_text().splitlines() if line.strip() and not line.startswith("#")]
        body = [node for node in MODULES[name].body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
        lines = sum((node.end_lineno or 0) - node.lineno + 1 for node in body)
        assert lines <= 45, f"{name}: {lines} lines of {len(code)}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "archive/README.md", "deploy/systemd/README.md"])
def test_pages_link_to_what_exists(page):
    check_links(ROOT / page)


def test_pages_of_docs_link_to_what_exists():
    for page in (ROOT / "docs").glob("*.md"):
        check_links(page)


def check_links(page: Path) -> None:
    text = page.read_text()
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
