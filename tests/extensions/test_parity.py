"""Every operator in every runtime, for every dtype, against the reference; and the gradients where there are any."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

from opserve_ops import reference
from tests.extensions.runtimes import ARGUMENTS, OPTIONS, RUNTIMES, Inputs, Results, inputs
from tests.extensions.samples import random
from tests.extensions.samples import results as results_of

# The first run compiles for one to three minutes.
pytestmark = pytest.mark.slow

# What a result may be off, in roundings of the dtype, relative to its largest element.
ROUNDINGS = {"scaled_add": 4, "graph_conv": 64, "graph_conv_csr": 64, "gcn_norm": 16, "warp_perspective": 512}
HALF = (torch.float16, torch.bfloat16)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def cases(gradients: bool) -> Iterator[object]:
    for name, runtime in RUNTIMES.items():
        for device, dtypes in runtime.dtypes.items():
            # The kernels' own gradients on CUDA are in test_cuda: positions in float32 need other images.
            if runtime.gradients < gradients or (gradients and device == "cuda"):
                continue
            for dtype in dtypes:
                for op in runtime.ops:
                    label = f"{name}-{op}-{str(dtype).removeprefix('torch.')}-{device}"
                    yield pytest.param(name, op, dtype, device, id=label, marks=[needs_gpu] if device == "cuda" else [])


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Results]:
    """What a runtime gives on a device: made once, for all operators and dtypes."""

    def run(name: str, device: str) -> Results:
        runtime = RUNTIMES[name]
        return runtime.run(device, runtime.dtypes[device], tmp_path_factory.mktemp(name))

    return cache(run)


def by_size(found: Results, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    chosen = {size: outputs for (of_dtype, size), outputs in found.items() if of_dtype == dtype}
    assert {"large", "empty"} <= chosen.keys()
    return chosen


def exact(op: str, dtype: torch.dtype, size: str) -> Inputs:
    """The operator's arguments in float64, so that only the runtime's own roundings show."""
    tensors = inputs(dtype, size)
    arguments = {name: tensors[name] for name in ARGUMENTS[op]}
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in arguments.items()}


def assert_near(got: Tensor, expected: Tensor, dtype: torch.dtype, roundings: float, what: str) -> None:
    """Half types are summed in float32: there the rounding of the result counts."""
    assert got.dtype == dtype, what
    assert got.shape == expected.shape, what
    largest = max(expected.abs().max().item(), 1.0) if expected.numel() else 1.0
    tolerance = (2.0 if dtype in HALF else roundings) * torch.finfo(dtype).eps * largest
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=tolerance, msg=lambda m: f"{what}: {m}")


@cache
def expected_results(op: str, dtype: torch.dtype, size: str) -> tuple[Tensor, ...]:
    return results_of(getattr(reference, op)(*exact(op, dtype, size).values(), *OPTIONS.get(op, ())))


@cache
def expected_gradients(op: str, dtype: torch.dtype, size: str) -> Inputs:
    leaves = exact(op, dtype, size)
    wanted = {name: leaf.requires_grad_() for name, leaf in leaves.items() if leaf.is_floating_point()}
    output = results_of(getattr(reference, op)(*leaves.values(), *OPTIONS.get(op, ())))[-1]
    weights = random(*output.shape, dtype=dtype, seed=2).double()
    found = torch.autograd.grad(output, list(wanted.values()), weights, allow_unused=True, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


@pytest.mark.parametrize(("runtime", "op", "dtype", "device"), list(cases(gradients=False)))
def test_results(
    runtime: str, op: str, dtype: torch.dtype, device: str, results: Callable[[str, str], Results]
) -> None:
    for size, outputs in by_size(results(runtime, device), dtype).items():
        *indices, expected = expected_results(op, dtype, size)
        assert_near(outputs[op], expected, dtype, ROUNDINGS[op], size)
        for number, index in enumerate(indices):
            assert torch.equal(outputs[f"{op}[{number}]"], index), (size, number)


@pytest.mark.parametrize(("runtime", "op", "dtype", "device"), list(cases(gradients=True)))
def test_gradients(
    runtime: str, op: str, dtype: torch.dtype, device: str, results: Callable[[str, str], Results]
) -> None:
    for size, outputs in by_size(results(runtime, device), dtype).items():
        for name, gradient in expected_gradients(op, dtype, size).items():
            assert_near(outputs[f"{op}.{name}"], gradient, dtype, 2048, f"{size} {name}")
