"""`docs/requests.md` has every error that the code can answer, with its status, and none that it cannot."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple

import pytest

from archive.repository import ROOT

PAGE = ROOT / "docs" / "requests.md"
TREES = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "handlers").rglob("*.py"))}
ANYTHING = ".*"
SHORTEST = 4  # a shorter text is not a message
NO_FIELD, SOME_FIELD, ANY_FIELD = "\N{EN DASH}", "an expression", ""


class Template(NamedTuple):
    """A message of the code, as a regular expression; a part of one if another message quotes it."""

    where: str
    pattern: str
    status: int | None
    quotes: bool  # another template, or what a library says
    field: str = ANY_FIELD  # that a row must have: a name, NO_FIELD, SOME_FIELD or ANY_FIELD

    def is_whole(self) -> bool:
        return self.status is not None


class Row(NamedTuple):
    """A line of the page's tables of errors."""

    status: int
    field: str
    message: str

    def fits(self, template: Template) -> bool:
        if template.field in (NO_FIELD, SOME_FIELD):
            fits = (NO_FIELD in self.field) if template.field == NO_FIELD else self.field != NO_FIELD
        else:
            fits = template.field in (ANY_FIELD, self.field)
        return fits and self.status == template.status and re.fullmatch(template.pattern, self.message) is not None


def makers() -> set[str]:
    """The functions that make errors and the exceptions whose text errors quote."""
    found = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or ast.Constant("")) == "RequestError":
                found.add(node.name)
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Exception" for base in node.bases):
                found.add(node.name)
    return found - {"OpserveError"}


def templates() -> Iterator[Template]:
    names = makers()
    for path, tree in TREES.items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    called = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
                    if called == "RequestError" or called in names:
                        yield from _templates_of_call(f"{path.relative_to(ROOT)}:{node.lineno}", node, called, function)


def _templates_of_call(where: str, call: ast.Call, called: str, function: ast.FunctionDef) -> Iterator[Template]:
    caught = {node.name for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)}
    parameters = {argument.arg for argument in function.args.args}
    makes_errors = ast.unparse(function.returns or ast.Constant("")) == "RequestError"
    for argument in call.args:
        for text in _texts(argument, function):
            names = {node.id for node in ast.walk(text) if isinstance(node, ast.Name)}
            quotes = bool(names & caught) or (makes_errors and bool(names & parameters & {"reason"}))
            pattern = _pattern(text)
            if len(pattern.replace(ANYTHING, "")) >= SHORTEST:
                status = _status(call, function) if called == "RequestError" else None
                yield Template(where, pattern, status, quotes, _field(call) if status else ANY_FIELD)


def _texts(node: ast.expr, function: ast.FunctionDef) -> Iterator[ast.expr]:
    """The expressions of a text: a literal, a formatted one, a sum of them, or what a variable holds."""
    if isinstance(node, ast.IfExp):
        yield from (*_texts(node.body, function), *_texts(node.orelse, function))
    elif isinstance(node, ast.JoinedStr | ast.BinOp) or (isinstance(node, ast.Constant) and type(node.value) is str):
        yield node
    elif isinstance(node, ast.Name):
        for each in ast.walk(function):
            if isinstance(each, ast.Assign) and node.id in map(ast.unparse, each.targets):
                yield from _texts(each.value, function)


def _pattern(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_pattern, node.values))
    if isinstance(node, ast.BinOp):
        return _pattern(node.left) + _pattern(node.right)
    return ANYTHING


def _status(call: ast.Call, function: ast.FunctionDef) -> int:
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "status"), ast.Constant(400))
    if isinstance(given, ast.Name):
        assigned = (node for node in ast.walk(function) if isinstance(node, ast.Assign))
        given = next(node.value for node in assigned if given.id in map(ast.unparse, node.targets))
    return int(ast.literal_eval(given) if isinstance(given, ast.Constant) else HTTPStatus[given.attr])


def _field(call: ast.Call) -> str:
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "field"), None)
    if given is None:
        return NO_FIELD
    if isinstance(given, ast.Constant):
        return str(given.value)
    # A variable of that name may be None.
    return ANY_FIELD if ast.unparse(given) == "field" else SOME_FIELD


def rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        if found := re.match(r"\| (\d{3}) \| ([^|]+) \| `(.+?)` \|", line):
            yield Row(int(found[1]), found[2], found[3])


TEMPLATES = sorted({*templates()})
ROWS = list(rows())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.where)
def test_every_error_is_on_the_page(template):
    if template.is_whole():
        found = [row for row in ROWS if row.fits(template)]
    else:
        found = [row for row in ROWS if re.search(template.pattern, row.message)]
    assert found, f"{template.where}: {template.pattern}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.message[:40])
def test_every_error_on_the_page_is_one_of_the_code(row):
    whole = [each for each in TEMPLATES if row.fits(each)]
    assert whole, f"no error of status {row.status} says: {row.message}"
    if all(template.quotes for template in whole) and not row.message.endswith("}"):
        assert any(re.search(each.pattern, row.message) for each in TEMPLATES if not each.is_whole()), row.message
