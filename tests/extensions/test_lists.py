"""The lists of operators and sources are complete: an operator or a file that one of them misses is found here."""

import torch

from archive.repository import ROOT
from opserve_ops._operator import OPERATORS, Operator

EXTENSIONS = ROOT / "extensions"


def test_python_declares_the_operators_of_the_library() -> None:
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("opserve::")}
    declared = {overload._schema.name for operator in OPERATORS for overload in overloads(operator)}
    assert registered == declared | {"opserve::cpu_capability"}


def overloads(operator: Operator) -> list[torch._ops.OpOverload]:
    return [operator.forward] if operator.fake_backward is None else [operator.forward, operator.backward]


def test_every_source_is_in_the_list_that_all_build_routes_read() -> None:
    files = {path.relative_to(EXTENSIONS) for path in EXTENSIONS.rglob("*") if path.suffix in (".cpp", ".cu")}
    # CMake alone makes a library of it, which is never loaded.
    unlisted = {"bindings/torch/import_torch_cuda.cpp"}
    sources = {str(path) for path in files if path.parts[0] != "tests"} - unlisted
    lines = (EXTENSIONS / "sources.txt").read_text().splitlines()
    assert {word for line in lines for word in line.split()[1:2] if word.endswith((".cpp", ".cu"))} == sources
