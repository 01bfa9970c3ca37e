"""The operators under TorchScript, tracing, opcheck and export."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from samples import HOMOGRAPHY, OPS, SAMPLES, csr, map_tensors, random
from torch import Tensor

import opserve_ops


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


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_torchscript_in_a_fresh_process(how: str, tmp_path: Path) -> None:
    model = Model().eval().requires_grad_(False)
    signs = (1.0, -1.0) if how == "script" else (1.0,)
    saved = torch.jit.script(model) if how == "script" else torch.jit.trace(model, model_inputs())
    saved.save(tmp_path / "model.pt")
    pairs = [(model_inputs(sign), model(*model_inputs(sign))) for sign in signs]
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


@pytest.mark.parametrize("op", OPS)
def test_fake_layout_matches_for_inputs_that_are_not_contiguous(op: str) -> None:
    overload = getattr(torch.ops.opserve, op).default
    for sample in SAMPLES[op](torch.float32):
        args = map_tensors(sample.args, lambda t: t.mT.contiguous().mT if t.dim() >= 2 else t)
        torch.library.opcheck(overload, args, test_utils="test_faketensor")


def test_dynamic_sizes_stay_symbolic() -> None:
    class Layer(torch.nn.Module):
        def forward(self, rowptr: Tensor, col: Tensor, x: Tensor, weight: Tensor, images: Tensor) -> tuple:
            h = torch.ops.opserve.graph_conv_csr(rowptr, col, None, x, weight)
            warped = torch.ops.opserve.warp_perspective(images, HOMOGRAPHY.to(x.device), [5, 6])
            return torch.ops.opserve.scaled_add(h, h), warped

    def inputs(n: int, batch: int) -> tuple[Tensor, ...]:
        rowptr, col = csr(n, 3, torch.int64)
        return rowptr, col, random(n, 4), random(4, 3), random(batch, 1, 12, 12)

    n, nnz, batch = (torch.export.Dim(name) for name in ("n", "nnz", "batch"))
    program = torch.export.export(
        Layer(), inputs(9, 2), dynamic_shapes=({0: n + 1}, {0: nnz}, {0: n}, None, {0: batch})
    )
    for sizes in ((9, 2), (30, 5)):
        for got, want in zip(program.module()(*inputs(*sizes)), Layer()(*inputs(*sizes)), strict=True):
            assert torch.equal(got, want)
