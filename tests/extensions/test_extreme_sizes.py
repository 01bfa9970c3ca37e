"""Empty tensors whose other sizes are far too large, as a file of a hundred bytes can contain.

No operator iterates over them or allocates memory for them.
"""

from pathlib import Path

import pytest

import opserve_ops
from tests.extensions.native_build import cmake_build
from tests.extensions.test_library import run_python

# Each backward operator beside its operator. It ends by a signal where a loop runs over what is not there.
SCRIPT = """
import resource, sys
import torch
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
torch.ops.load_library(sys.argv[1])
torch.set_num_threads(1)
ops = getattr(torch.ops, sys.argv[2])
zeros = torch.empty
FAR = 2**50
rowptr, col = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
for f, k in ((FAR, 0), (0, FAR)):
    a, x, weight, out = zeros(0, 0), zeros(0, f), zeros(f, k), zeros(0, k)
    needs = [True, True, True, k == 0]
    assert ops.graph_conv(a, x, weight).shape == out.shape
    assert ops._graph_conv_backward(out, a, x, weight, needs)[2].shape == weight.shape
    assert ops.graph_conv_csr(rowptr, col, None, x, weight).shape == out.shape
    assert ops._graph_conv_csr_backward(out, rowptr, col, zeros(0), x, weight, needs)[2].shape == weight.shape
graph = ops.gcn_norm(rowptr, col, zeros(0))
assert [tensor.numel() for tensor in graph] == [1, 0, 0]
assert ops._gcn_norm_backward(zeros(0), rowptr, col, zeros(0), 1.0).shape == (0,)
empty = zeros(FAR, 0)
assert ops.scaled_add(empty, empty).shape == empty.shape
assert ops._scaled_add_backward(empty, 2.0)[0].shape == empty.shape
SIDE = 2**31 - 9
for shape, size in (
    ((FAR, 0, 1, 1), (8, 8)),
    ((FAR, 0, 4), (0, 8)),
    ((FAR, 0, 4), (8, 0)),
    ((2**30, 2**20, 0, 4), (0, 0)),
    ((0, FAR, 4, 4), (2, 2)),
    ((SIDE, 0), (8, 8)),
    ((0, SIDE), (8, 8)),
    ((4, 4), (SIDE, 0)),
    ((4, 4), (0, SIDE)),
):
    image, matrix, out = zeros(shape), torch.eye(3), (*shape[:-2], *size)
    assert ops.warp_perspective(image, matrix, size).shape == out
    # The gradient of the matrix is summed over rows, which takes memory.
    gradients = ops._warp_perspective_backward(zeros(out), image, matrix, size, [True, False])
    assert gradients[0].shape == shape
"""


@pytest.mark.parametrize("namespace", ["opserve", "opserve_emulated"])
def test_empty_tensors_of_huge_sizes(namespace: str) -> None:
    library: Path = opserve_ops.library_path()
    if namespace == "opserve_emulated":
        library = cmake_build() / "lib" / "libopserve_emulated.so"
    result = run_python(SCRIPT, library, namespace)
    assert result.returncode == 0, result.stderr
