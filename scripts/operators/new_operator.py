"""Writes the files of a new operator: contract, check, kernels, bindings, reference and tests, which pass as written.

What is written computes something simple, to be replaced; docs/operators.md walks through a real one.
"""

import builtins
import keyword
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from string import Template

from handlers.errors import OpserveError

TEMPLATES = Path(__file__).parent / "templates"
KINDS = ("elementwise", "rowwise")
SCHEMA = "(Tensor x, float scale=1.0) -> Tensor"
BACKWARD_SCHEMA = "(Tensor grad, Tensor x, float scale) -> Tensor"
# What each kind computes, in Python and in a row of a table.
REFERENCE = {"elementwise": "scale * x * x", "rowwise": "scale * (x * x).sum(1)"}
MEANING = {"elementwise": "scale * x², element by element", "rowwise": "scale times the sum of x² of each row"}
# What differs between the kinds in the templates they share: the sizes that the check fills in, tensors, and in the
# tests shapes, how many of them are small, and what is refused.
WORDS = {
    "elementwise": {
        "sizes": "numel",
        "out_sizes": "x_arg.sizes, x_arg.dim",
        "data": "contiguous_data()",
        "shapes": "[(), (0,), (1,), (7,), (3, 0, 2), (4, 5, 6), (100_003,)]",
        "small": "6",
        "refused": """\
    ("_${name}_backward", (GRAD[0], X, 1.0), "grad must have 2 dimensions, got 1"),
    ("_${name}_backward", (GRAD[:1], X, 1.0), "grad must have size 3 in dimension 0, as x has, got 1"),""",
    },
    "rowwise": {
        "sizes": "sizes",
        "out_sizes": "&params.sizes.n, 1",
        "data": "matrix_data(&params.x_stride)",
        "shapes": "[(0, 3), (3, 0), (1, 1), (5, 33), (700, 7), (3, 1000)]",
        "small": "4",
        "refused": """\
    ("${name}", (X[0],), "x must have 2 dimensions, got 1"),
    ("_${name}_backward", (X, X, 1.0), "grad must have 1 dimension, got 2"),
    ("_${name}_backward", (GRAD[:1], X, 1.0), "grad must have n = 3 elements, got 1"),""",
    },
}

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MAX_NAME = 40
# C++ keywords that Python does not have, and namespaces that the sources use.
_RESERVED = frozenset(
    """alignas alignof asm auto bool case catch char class concept const consteval constexpr constinit decltype default
    delete do double enum explicit export extern float friend goto inline int long main mutable namespace new noexcept
    nullptr operator private protected public register requires short signed sizeof static struct switch template this
    thread_local throw typedef typeid typename union unsigned using virtual void volatile wchar_t
    at check cpu cuda opserve reference std torch""".split()
)


class NewOperatorError(OpserveError):
    """An operator cannot be written: its name will not do, or a file is not as expected."""


def check_name(name: str) -> None:
    """Raises NewOperatorError unless a name is one in Python, C++ and PyTorch alike, in lower case."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise NewOperatorError(
            f"NAME={name}: the name of an operator begins with a letter and has at most {MAX_NAME} lower-case letters, "
            "digits and single underscores, for example row_norm"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in _RESERVED or hasattr(builtins, name):
        raise NewOperatorError(f"NAME={name} means something else in Python, C++ or here; choose another name")
    if name.endswith("_backward"):
        raise NewOperatorError(f"NAME={name}: a backward operator is written along with its operator")


def new_files(root: Path, name: str, kind: str) -> dict[Path, str]:
    """Returns the files of an operator of its own: their paths below `root` and their contents."""
    words = {"name": name, "Class": class_name(name)}
    words |= {word: Template(text).substitute(words) for word, text in WORDS[kind].items()}
    files = {}
    for folder in (TEMPLATES / "common", TEMPLATES / kind):
        for template in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = str(template.relative_to(folder)).replace("NAME", name)
            files[root / place] = Template(template.read_text()).substitute(words)
    return files


def class_name(name: str) -> str:
    """Returns the name of an operator's classes in C++, which is that of the operator in ONNX too."""
    return "".join(word.capitalize() for word in name.split("_"))


def changed_files(root: Path, name: str, kind: str) -> dict[Path, str]:
    """Returns the files that all operators share, with the new one in them.

    Raises:
        NewOperatorError: one of them is not as this command expects it.
    """
    include = f'#include "{name}.h"\n'
    extensions = root / "extensions"
    changes: dict[str, Callable[[str], str]] = {
        "sources.txt": lambda text: _insert_sources(text, name),
        "include/opserve/operators.h": lambda text: _append_entry(text, name),
        "bindings/torch/operators.h": lambda text: _insert_sorted(text, include),
        "bindings/onnxruntime/operators.h": lambda text: _insert_sorted(text, include),
        "bindings/autograd/autograd.cpp": lambda text: _insert_sorted(text, include),
        "opserve_ops/__init__.py": lambda text: _insert_sorted(
            text, f"from .operators.{name} import {name} as {name}  # noqa: E402\n"
        ),
        "opserve_ops/reference.py": lambda text: (
            f"{text}\n\ndef {name}(x: Tensor, scale: float = 1.0) -> Tensor:\n"
            f'    """{MEANING[kind]}."""\n    return {REFERENCE[kind]}\n'
        ),
        "../docs/operators.md": lambda text: _insert_row(text, name, kind),
    }
    changed = {}
    for place, change in changes.items():
        path = (extensions / place).resolve()
        try:
            changed[path] = change(path.read_text())
        except (OSError, ValueError) as error:
            raise NewOperatorError(f"{path} is not as make new-op expects it: {error}") from error
    return changed


def _insert_sorted(text: str, line: str, block: str = "") -> str:
    """Inserts a line into the sorted lines that begin like it: up to its first quote, dot or space."""
    prefix = block or line[: re.search(r'["]|\.operators\.', line).end()]  # type: ignore[union-attr]
    lines = text.splitlines(keepends=True)
    places = [index for index, each in enumerate(lines) if each.startswith(prefix)]
    if not places:
        raise ValueError(f"no line begins with {prefix!r}")
    later = (index for index in places if _order(lines[index]) > _order(line))
    lines.insert(next(later, places[-1] + 1), line)
    return "".join(lines)


def _order(line: str) -> str:
    """Returns what lines are sorted by: graph_conv comes before graph_conv_csr."""
    return re.sub(r"[^A-Za-z0-9_/]", " ", line)


def _insert_sources(text: str, name: str) -> str:
    for kind, path in (
        ("check", f"kernels/{name}_check.cpp"),
        ("cpu", f"kernels/cpu/{name}_cpu.cpp"),
        ("cuda", f"kernels/cuda/{name}_cuda.cu"),
    ):
        text = _insert_sorted(text, f"{kind} {path}\n", f"{kind} ")
    return text


def _append_entry(text: str, name: str) -> str:
    """Adds an entry at the end of the table, whose lines are joined by backslashes in one column."""
    before, mark, after = text.partition("// clang-format on")
    lines = before.splitlines()
    if not mark or not lines[-1].endswith(")"):
        raise ValueError("the table does not end before 'clang-format on'")
    width = max(len(line) for line in lines)
    entry = [f"    entry({class_name(name)}, {name},", f'          "{SCHEMA}",', f'          "{BACKWARD_SCHEMA}")']
    lines[-1] = lines[-1].ljust(width - 1) + "\\"
    lines += [line.ljust(width - 1) + "\\" for line in entry[:-1]] + entry[-1:]
    return "\n".join(lines) + f"\n{mark}{after}"


def _insert_row(text: str, name: str, kind: str) -> str:
    """Adds a row to the page's table of operators."""
    row = f"| `{name}{SCHEMA}` | `{class_name(name)}` | {MEANING[kind]} |\n"
    return _insert_sorted(text, row, "| `")


def write(root: Path, name: str, kind: str) -> list[Path]:
    """Writes all files of an operator, or none, and returns those that are its own.

    Raises:
        NewOperatorError: the name will not do or is taken, or a file is not as expected.
    """
    check_name(name)
    own = new_files(root, name, kind)
    _check_free(root, name, own)
    changed = changed_files(root, name, kind)
    before = {path: path.read_text() for path in changed}
    try:
        for path, content in (own | changed).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    except BaseException:
        for path in own:
            path.unlink(missing_ok=True)
        for path, content in before.items():
            path.write_text(content)
        raise
    return list(own)


def _check_free(root: Path, name: str, own: Iterable[Path]) -> None:
    for path in own:
        if path.exists():
            raise NewOperatorError(f"NAME={name} is taken: {path.relative_to(root)} exists")
    package = (root / "extensions" / "opserve_ops" / "__init__.py").read_text()
    if re.search(rf"\b{name}\b", package):
        raise NewOperatorError(f"NAME={name} is taken: extensions/opserve_ops/__init__.py has it")
    declared = re.compile(rf"\b(class|struct) {class_name(name)}\b")
    for header in sorted((root / "extensions" / "bindings").rglob("*.h")):
        if declared.search(header.read_text()):
            raise NewOperatorError(f"NAME={name}: {header.relative_to(root)} has a class {class_name(name)} already")


def format_files(paths: list[Path]) -> None:
    """Breaks lines where the length of the name asks for it, if the development tools are installed."""
    tools = Path(sys.executable).parent
    for command, suffixes in (
        (["clang-format", "-i"], {".h", ".cpp", ".cu"}),
        (["ruff", "format", "-q", "--no-cache"], {".py"}),
    ):
        tool, files = tools / command[0], [path for path in paths if path.suffix in suffixes]
        if tool.is_file() and files:
            subprocess.run([tool, *command[1:], *files], check=False)
