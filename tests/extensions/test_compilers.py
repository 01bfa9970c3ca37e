"""The operators under opcheck, and in a scripted module with a branch; test_parity has what all runtimes share."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import opserve_ops
from tests.extensions.samples import HOMOGRAPHY, INDEX_DTYPES, OPS, SAMPLES, csr, map_tensors, random


class Model(torch.nn.Module):
    """One of each operator, and a branch that only scripting keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(random(4, 3, dtype=torch.float32))

    def forward(
        self, image: Tensor, matrix: Tensor, rowptr: Tensor, col: Tensor, x: Tensor, a: Tensor
    ) -> tuple[Tensor, Tensor]:
        warped = torch.ops.opserve.warp_perspective(image, matrix, [6, 7])
        sparse = torch.ops.opserve.graph_conv_csr(rowptr, col, None, x, self.weight, None)
        dense = torch.ops.opserve.graph_conv(a, x, self.weight)
        if bool(x.sum() > 0):
            return warped, torch.ops.opserve.scaled_add(sparse, dense, 0.5)
        return warped, torch.ops.opserve.scaled_add(sparse, dense)


def model_inputs(sign: float = 1.0) -> tuple[Tensor, ...]:
    rowptr, col = csr(9, 3, torch.int64)
    return (
        random(2, 20, 20, dtype=torch.float32),
        HOMOGRAPHY,
        rowptr,
        col,
        sign * random(9, 4, dtype=torch.float32).abs(),
        random(9, 9, dtype=torch.float32),
    )


FRESH_PROCESS = """
import sys
import torch
torch.ops.load_library(sys.argv[1])
model = torch.jit.load(sys.argv[2])
for inputs, expected in torch.load(sys.argv[3]):
    for got, want in zip(model(*inputs), expected, strict=True):
        assert torch.equal(got, want)
assert "opserve_ops" not in sys.modules
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_branch_is_taken_in_a_fresh_process(tmp_path: Path) -> None:
    model = Model().eval().requires_grad_(False)
    torch.jit.script(model).save(tmp_path / "model.pt")
    pairs = [(model_inputs(sign), model(*model_inputs(sign))) for sign in (1.0, -1.0)]
    torch.save(pairs, tmp_path / "pairs.pt")
    # Only the library beside the model: what a worker has.
    subprocess.run(
        [
            sys.executable,
            "-c",
            FRESH_PROCESS,
            opserve_ops.library_path(),
            tmp_path / "model.pt",
            tmp_path / "pairs.pt",
        ],
        check=True,
        timeout=120,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_reports_the_operators_own_error() -> None:
    model = torch.jit.script(Model())
    inputs = model_inputs()
    with pytest.raises(RuntimeError, match="opserve::graph_conv_csr: rowptr must start at 0, got 1"):
        model(*inputs[:2], inputs[2] + 1, *inputs[3:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_opcheck(op: str, dtype: torch.dtype) -> None:
    overload = getattr(torch.ops.opserve, op).default
    for sample in SAMPLES[op](dtype):
        torch.library.opcheck(overload, sample.args, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_opcheck_of_check_csr(index: torch.dtype) -> None:
    overload = torch.ops.opserve.check_csr.default
    torch.library.opcheck(overload, (*csr(9, 3, index), 9), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("op", OPS)
def test_fake_layout_matches_for_inputs_that_are_not_contiguous(op: str) -> None:
    overload = getattr(torch.ops.opserve, op).default
    for sample in SAMPLES[op](torch.float32):
        args = map_tensors(sample.args, lambda t: t.mT.contiguous().mT if t.dim() >= 2 else t)
        torch.library.opcheck(overload, args, test_utils="test_faketensor")
