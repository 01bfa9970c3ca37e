"""`torch.use_deterministic_algorithms`: on CUDA some gradients cannot be promised to be the same twice, and say so.

Whether a backward raises is decided before it runs: on a machine without a GPU tensors without memory show it.
"""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import opserve_ops
from opserve_ops import _autograd
from opserve_ops._operator import OPERATORS
from tests.extensions.samples import HOMOGRAPHY, csr, random, results


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def arguments(op: str, f: int, k: int) -> dict[str, Tensor]:
    if op == "warp_perspective":
        return {"image": random(6, 6), "matrix": HOMOGRAPHY.clone()}
    rowptr, col = csr(5, 3, torch.int64)
    if op == "gcn_norm":
        return {"rowptr": rowptr, "col": col, "value": random(len(col)).abs()}
    layer = {"x": random(5, f), "weight": random(f, k), "bias": random(k)}
    return {"rowptr": rowptr, "col": col, "value": random(len(col)), **layer}


def backward(op: str, tensors: dict[str, Tensor], wanted: str) -> None:
    """For the gradient of one argument."""
    tensors[wanted].requires_grad_()
    results(getattr(opserve_ops, op)(*tensors.values()))[-1].sum().backward()
    assert tensors[wanted].grad.shape == tensors[wanted].shape


def backward_on_cuda(op: str, wanted: str, f: int, k: int) -> None:
    tensors = arguments(op, f, k)
    if torch.cuda.is_available():
        backward(op, {name: tensor.cuda() for name, tensor in tensors.items()}, wanted)
        return
    # PyTorch without CUDA has no autograd for its tensors, so the formula is called as autograd would.
    with FakeTensorMode() as mode:

        def on_cuda(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
            return FakeTensor(mode, torch.empty(shape, dtype=dtype, device="meta"), torch.device("cuda", 0))

        saved = {name: on_cuda(*tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items() if name != "bias"}
        needs = tuple(name == wanted for name in tensors)
        numbers = {"size": (8, 8), "fill_value": 1.0}
        context = SimpleNamespace(saved_tensors=tuple(saved.values()), needs_input_grad=needs, numbers=numbers)
        operator = next(each for each in OPERATORS if each.name == op)
        _, formula = _autograd.formulas(operator)
        result = {"graph_conv_csr": (5, k), "gcn_norm": (len(tensors.get("col", ())) + 5,), "warp_perspective": (8, 8)}
        gradients = formula(context, on_cuda(*result[op]))
    found = dict(zip(tensors, gradients, strict=False))
    assert found[wanted].shape == tensors[wanted].shape
    assert found[wanted].is_cuda


# Operator, argument, f, k.
NOT_DETERMINISTIC = [
    ("graph_conv_csr", "x", 3, 2),
    ("graph_conv_csr", "x", 2, 3),
    ("graph_conv_csr", "weight", 3, 2),
    ("graph_conv_csr", "weight", 3, 3),
    ("warp_perspective", "image", 3, 2),
    ("gcn_norm", "value", 3, 2),
]
DETERMINISTIC = [
    ("graph_conv_csr", "value", 3, 2),
    ("graph_conv_csr", "weight", 2, 3),
    ("graph_conv_csr", "bias", 3, 2),
    ("warp_perspective", "matrix", 3, 2),
]


@pytest.mark.parametrize(("op", "wanted", "f", "k"), NOT_DETERMINISTIC)
def test_raises_on_cuda(op: str, wanted: str, f: int, k: int) -> None:
    with pytest.raises(RuntimeError, match=rf"^opserve::{op}: the gradient of .*{wanted}.* has no deterministic"):
        backward_on_cuda(op, wanted, f, k)


@pytest.mark.parametrize(("op", "wanted", "f", "k"), NOT_DETERMINISTIC)
def test_warns_where_that_is_wanted(op: str, wanted: str, f: int, k: int) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    with pytest.warns(UserWarning, match=rf"^opserve::{op}: the gradient of .*{wanted}.* has no deterministic"):
        backward_on_cuda(op, wanted, f, k)


@pytest.mark.parametrize(("op", "wanted", "f", "k"), DETERMINISTIC)
def test_the_others_go_on(op: str, wanted: str, f: int, k: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backward_on_cuda(op, wanted, f, k)


@pytest.mark.parametrize(("op", "wanted", "f", "k"), NOT_DETERMINISTIC)
def test_without_the_setting_nothing_is_said(op: str, wanted: str, f: int, k: int) -> None:
    torch.use_deterministic_algorithms(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backward_on_cuda(op, wanted, f, k)


@pytest.mark.parametrize(("op", "wanted", "f", "k"), NOT_DETERMINISTIC + DETERMINISTIC)
def test_the_cpu_is_deterministic(op: str, wanted: str, f: int, k: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backward(op, arguments(op, f, k), wanted)
