"""Gradients registered in C++, for the PyTorch they were built with, and in Python: the same numbers and errors."""

import os
import shutil
import subprocess
import sys
from types import FrameType

import pytest
import torch
from torch import Tensor

import opserve_ops
from archive.repository import ROOT
from tests.extensions.samples import HOMOGRAPHY, csr, random

STEPS = """
import sys
import torch
import opserve_ops
from tests.extensions.test_autograd_library import gradients, second_backward
assert opserve_ops.autograd_library_path() is None
torch.save((gradients(), second_backward()), sys.argv[1])
"""


def calls() -> dict[str, tuple]:
    rowptr, col = csr(6, 4, torch.int64)
    x, weight, bias = random(6, 3), random(3, 5), random(5)
    return {
        "scaled_add": (random(4, 5), random(4, 5), 0.5),
        "warp_perspective": (random(2, 6, 7), HOMOGRAPHY.clone(), [5, 4]),
        "graph_conv": (random(6, 6), x, weight, bias),
        "graph_conv without bias": (random(6, 6), x, weight),
        "graph_conv_csr": (rowptr, col, random(len(col)), x, weight, bias),
        "graph_conv_csr without value": (rowptr, col, None, x, weight, bias),
        "graph_conv_csr without value and bias": (rowptr, col, None, x, weight),
    }


def differentiable(args: tuple) -> list[Tensor]:
    return [arg for arg in args if isinstance(arg, Tensor) and arg.is_floating_point()]


def gradients() -> dict[str, list[Tensor]]:
    """Of each call, for all arguments at once and for each one alone."""
    found: dict[str, list[Tensor]] = {}
    for name, args in calls().items():
        op = getattr(opserve_ops, name.split()[0])
        tensors = differentiable(args)
        for wanted in (tensors, *([tensor] for tensor in tensors)):
            for tensor in tensors:
                tensor.requires_grad_(any(tensor is other for other in wanted))
            out = op(*args)
            grad = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
            found.setdefault(name, []).extend(torch.autograd.grad(out, wanted, grad))
    return found


def second_backward() -> dict[str, str]:
    """What a gradient of a gradient says."""
    errors = {}
    for name, args in calls().items():
        tensors = [tensor.requires_grad_() for tensor in differentiable(args)]
        out = getattr(opserve_ops, name.split()[0])(*args)
        first = torch.autograd.grad(out.square().sum(), tensors, create_graph=True)
        with pytest.raises(RuntimeError) as error:
            torch.autograd.grad(sum(grad.sum() for grad in first), tensors)
        errors[name] = str(error.value)
    return errors


@pytest.fixture(scope="module")
def in_python(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[Tensor]], dict[str, str]]:
    """The same of a process that finds no library of gradients."""
    folder = tmp_path_factory.mktemp("autograd")
    shutil.copy(opserve_ops.library_path(), folder)
    environment = {**os.environ, "OPSERVE_LIBRARY_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", STEPS, str(folder / "found.pt")], env=environment, cwd=ROOT, check=True)
    return torch.load(folder / "found.pt")


def test_it_is_built_and_loaded() -> None:
    path = opserve_ops.autograd_library_path()
    assert path is not None
    assert path.name == f"libopserve_autograd_torch{'.'.join(torch.__version__.split('.')[:2])}.so"


def test_both_registrations_give_the_same_gradients(in_python: tuple) -> None:
    in_cpp = gradients()
    assert in_cpp.keys() == in_python[0].keys()
    for name, expected in in_python[0].items():
        assert len(in_cpp[name]) == len(expected) > 1
        for ours, theirs in zip(in_cpp[name], expected, strict=True):
            assert torch.equal(ours, theirs), name


def test_both_say_that_there_is_no_second_backward(in_python: tuple) -> None:
    in_cpp = second_backward()
    assert in_cpp.keys() == in_python[1].keys()
    for name, expected in in_python[1].items():
        op = name.split()[0]
        assert in_cpp[name] == expected
        assert expected == f"opserve::_{op}_backward: gradients of gradients are not supported (a second backward)"


@pytest.mark.parametrize("name", ["scaled_add", "graph_conv"])
def test_neither_direction_enters_python(name: str) -> None:
    args = calls()[name]
    for tensor in differentiable(args):
        tensor.requires_grad_()
    op = getattr(torch.ops.opserve, name).default
    entered = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            entered.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        out = op(*args)
        out.backward(torch.ones_like(out))
    finally:
        sys.setprofile(None)
    assert any(file.endswith("torch/_ops.py") for file in entered)
    assert not [file for file in entered if "opserve_ops" in file or "torch/_library" in file]
