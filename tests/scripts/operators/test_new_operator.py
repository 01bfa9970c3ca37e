"""`make new-op`: what it refuses, that it writes all or nothing, and that what it writes compiles and passes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archive.repository import ROOT
from scripts.operators.new_operator import KINDS, NewOperatorError, format_files, write

NAMES = {"elementwise": "new_square", "rowwise": "row_power"}


def copy_tree(folder: Path) -> Path:
    left_out = shutil.ignore_patterns("__pycache__")
    for name in ("archive", "extensions", "handlers", "scripts", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    (folder / "docs").mkdir()
    for name in ("pyproject.toml", ".clang-format", "docs/operators.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The parts of the repository that operators are in."""
    return copy_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for tests that do not change it."""
    return copy_tree(tmp_path_factory.mktemp("tree"))


def contents(tree: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *[
            (name, rf"NAME={re.escape(name)}: the name of an operator begins with a letter")
            for name in (
                "",
                "RowNorm",
                "row-norm",
                "1st",
                "_row",
                "row__norm",
                "row_",
                "a" * 41,
                "../up",
                "row norm",
                "é",
            )
        ],
        *[
            (name, f"NAME={name} means something else in Python, C\\+\\+ or here")
            for name in ("lambda", "match", "float", "namespace", "sum", "torch", "std")
        ],
        ("row_norm_backward", "a backward operator is written along with its operator"),
        ("scaled_add", r"NAME=scaled_add is taken: extensions/.*/scaled_add\.h exists"),
        ("tensor", "NAME=tensor is taken: .* exists"),
        ("library_path", r"NAME=library_path is taken: extensions/opserve_ops/__init__\.py has it"),
        ("shape_inference", "NAME=shape_inference: .*shapes.h has a class ShapeInference already"),
    ],
)
def test_a_name_that_will_not_do_is_refused(unchanged: Path, name: str, message: str) -> None:
    before = contents(unchanged)
    with pytest.raises(NewOperatorError, match=message):
        write(unchanged, name, "rowwise")
    assert contents(unchanged) == before


def test_a_file_that_is_not_as_expected_is_named_and_nothing_is_written(tree: Path) -> None:
    sources = tree / "extensions" / "sources.txt"
    sources.write_text(sources.read_text().replace("\ncuda ", "\ngpu "))
    before = contents(tree)
    with pytest.raises(
        NewOperatorError, match=r"sources\.txt is not as make new-op expects it: no line begins with 'cuda '"
    ):
        write(tree, "row_norm", "rowwise")
    assert contents(tree) == before


@pytest.mark.parametrize("written", [0, 3, 12, 16])
def test_a_disk_that_is_full_leaves_nothing_half_written(
    tree: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(tree)
    real, calls = Path.write_text, 0

    def write_text(path: Path, *args: object, **kwargs: object) -> int:
        nonlocal calls
        calls += 1
        if calls == written + 1:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OSError, match="No space left"):
        write(tree, "row_norm", "elementwise")
    monkeypatch.undo()
    assert contents(tree) == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_writes_is_in_style_and_registered(tree: Path, kind: str) -> None:
    before = contents(tree)
    name = NAMES[kind]
    written = write(tree, name, kind)
    format_files(written)
    after = contents(tree)
    own = sorted(after.keys() - before.keys())
    assert sorted(written) == own
    assert len(own) == 9
    assert not [path for path in own if b"$" in after[path] or b"NAME" in after[path]]
    changed = sorted(path for path in before if before[path] != after[path])
    for path in changed:
        assert [line for line in before[path].splitlines() if line not in after[path].splitlines()][1:] == [], path
    tools = Path(sys.executable).parent
    python = [path for path in own + changed if path.suffix == ".py"]
    cpp = [path for path in own + changed if path.suffix in (".h", ".cpp", ".cu")]
    for command in (
        [tools / "ruff", "check", *python],
        [tools / "ruff", "format", "--check", *python],
        [tools / "clang-format", "--dry-run", "-Werror", *cpp],
    ):
        checked = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tree)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    with pytest.raises(NewOperatorError, match="is taken"):
        write(tree, name, kind)


BUILD = """
from archive.repository import ROOT
from tests.extensions import native_build
options = ("TORCH", "NATIVE", "TESTS", "AUTOGRAD")
native_build.build(
    ROOT / "build" / "cmake-tests",
    ROOT / "build" / "tests",
    *(f"-DOPSERVE_BUILD_{option}=ON" for option in options),
    f"-DPython_EXECUTABLE={__import__('sys').executable}",
)
"""


@pytest.mark.slow
def test_what_it_writes_compiles_and_passes_its_tests(tree: Path) -> None:
    for kind in KINDS:
        write(tree, NAMES[kind], kind)
    # Without optimization, and without the programs and tests that the new operators do not need.
    extensions = tree / "extensions"
    sources = (extensions / "sources.txt").read_text()
    # GCC mistakes vectors for overruns then.
    quick = "compile -O0\ncompile -Wno-stringop-overflow\ncompile -Wno-stringop-overread"
    (extensions / "sources.txt").write_text(sources.replace("compile -O3", quick))
    (extensions / "native" / "CMakeLists.txt").write_text("")
    (extensions / "tests" / "CMakeLists.txt").write_text("add_subdirectory(emulation)\n")
    left_out = ("OPSERVE_", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment |= {"PYTHONPATH": f"{tree}:{extensions}", "OPSERVE_LIBRARY_DIR": str(tree / "build" / "tests" / "lib")}
    tests = [
        *(f"tests/extensions/test_{name}.py" for name in NAMES.values()),
        "tests/extensions/test_operators_page.py",
    ]
    for command in (["-c", BUILD], ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]):
        done = subprocess.run(
            [sys.executable, *command], check=False, capture_output=True, text=True, cwd=tree, env=environment
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
