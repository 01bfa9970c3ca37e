"""gcn_norm: against PyTorch Geometric's definition, its gradients, what it refuses, and its guards on CUDA."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import opserve_ops
from opserve_ops import reference
from tests.extensions.cuda_backend import CUDA, Backend
from tests.extensions.cuda_backend import emulated as emulated
from tests.extensions.onnx_nodes import assert_same, run_in, session
from tests.extensions.onnx_nodes import model as onnx_model
from tests.extensions.samples import DTYPES, INDEX_DTYPES, csr, random
from tests.extensions.test_forward import contiguous, every_second, offset

NAN, INF = float("nan"), float("inf")
F16, F32, F64, I32, I64 = torch.float16, torch.float32, torch.float64, torch.int32, torch.int64
ALL_DTYPES = (F32, F64, F16, torch.bfloat16)


@pytest.fixture(
    params=["emulated", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.getfixturevalue("emulated") if request.param == "emulated" else CUDA


def weighted(n: int, index: torch.dtype = I64, dtype: torch.dtype = F64, degree: int = 3) -> tuple[Tensor, ...]:
    """A graph with positive weights: columns repeat, rows may be empty, some nodes have a loop."""
    rowptr, col = csr(n, degree, index)
    return rowptr, col, random(len(col), dtype=dtype).abs() + 0.25


def dense(rowptr: Tensor, col: Tensor, value: Tensor) -> Tensor:
    n = len(rowptr) - 1
    row = torch.repeat_interleave(torch.arange(n), rowptr.diff().long())
    return value.new_zeros(n, n).index_put((row, col.long()), value, accumulate=True)


def by_definition(rowptr: Tensor, col: Tensor, value: Tensor, fill_value: float) -> Tensor:
    """torch_geometric.nn.conv.gcn_conv.gcn_norm, with a dense matrix for its list of edges."""
    matrix = dense(rowptr, col, value)
    present = dense(rowptr, col, torch.ones_like(value)).diagonal() > 0
    matrix = matrix + torch.diag(torch.where(present, 0.0, fill_value).to(value.dtype))
    degree = matrix.sum(1) ** -0.5
    degree = degree.masked_fill(degree == INF, 0.0)
    return degree[:, None] * matrix * degree[None, :]


@pytest.mark.parametrize("fill_value", [1.0, 2.0, 0.0], ids=["", "improved", "add_self_loops=False"])
@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_is_pytorch_geometrics(dtype: torch.dtype, index: torch.dtype, fill_value: float) -> None:
    for n in (1, 2, 7, 50):
        graph = weighted(n, index, dtype)
        result = opserve_ops.gcn_norm(*graph, fill_value)
        assert [tensor.dtype for tensor in result] == [index, index, dtype]
        torch.testing.assert_close(dense(*result), by_definition(*graph, fill_value))


def test_each_row_begins_with_its_loop() -> None:
    # 0 ← 1, 0 ← 2, 2 ← 0; node 1 has no edge.
    rowptr, col = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 2, 0])
    got = opserve_ops.gcn_norm(rowptr, col, torch.tensor([1.0, 2.0, 3.0], dtype=F64))
    assert got[0].tolist() == [0, 3, 4, 6]
    assert got[1].tolist() == [0, 1, 2, 1, 2, 0]
    # Degrees: 1 + 1 + 2, 1, 1 + 3.
    assert got[2].tolist() == [0.25, 0.5, 0.5, 1.0, 0.25, 0.75]


def test_a_loop_that_is_there_is_kept_and_several_are_summed() -> None:
    rowptr, col = torch.tensor([0, 2, 5]), torch.tensor([0, 1, 1, 1, 0])
    value = torch.tensor([3.0, 1.0, 4.0, 8.0, 4.0], dtype=F64)
    got = opserve_ops.gcn_norm(rowptr, col, value, 7.0)
    # Degrees 4 and 16: the added loops weigh 0 instead of 7.
    assert got[1].tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert got[2].tolist() == [0.0, 0.75, 0.125, 0.0, 0.25, 0.5, 0.5]


def test_a_node_of_degree_0_has_weights_0_and_passes_no_gradient_on() -> None:
    rowptr, col = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1])
    value = torch.tensor([1.0, -1.0, 4.0], dtype=F64, requires_grad=True)
    result = opserve_ops.gcn_norm(rowptr, col, value, 0.0)[2]
    assert result.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    (grad,) = torch.autograd.grad(result.sum(), value)
    (want,) = torch.autograd.grad(reference.gcn_norm(rowptr, col, value, 0.0)[2].sum(), value)
    assert grad.isfinite().all()
    torch.testing.assert_close(grad, want)


def test_weights_without_a_root_are_as_ieee_says() -> None:
    rowptr, col = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 0])
    result = opserve_ops.gcn_norm(rowptr, col, torch.tensor([-3.0, 3.0, INF], dtype=F32))[2]
    # A negative degree is NaN wherever it is read, an infinite one 0, and 0·inf NaN.
    assert result.isnan().tolist() == [True, True, False, False, False, True]
    assert result[2:5].tolist() == [0.25, 0.0, 0.0]
    assert opserve_ops.gcn_norm(rowptr, col, torch.tensor([NAN, 3.0, 3.0]))[2].isnan().tolist() == [
        *(True, True, False, False, False, True),
    ]


def test_block_diagonal_graphs_do_not_touch_each_other() -> None:
    graphs = [weighted(n) for n in (5, 1, 40)]
    alone = [opserve_ops.gcn_norm(*graph) for graph in graphs]

    def joined(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        rowptrs, cols, nodes, entries = [torch.zeros(1, dtype=I64)], [], 0, 0
        for rowptr, col, _ in parts:
            rowptrs.append(rowptr[1:] + entries)
            cols.append(col + nodes)
            nodes, entries = nodes + len(rowptr) - 1, entries + len(col)
        return torch.cat(rowptrs), torch.cat(cols), torch.cat([value for *_, value in parts])

    for got, want in zip(opserve_ops.gcn_norm(*joined(graphs)), joined(alone), strict=True):
        assert torch.equal(got, want)


# --- gradients


@pytest.mark.parametrize("fill_value", [1.0, 2.0, 0.0])
@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
@pytest.mark.parametrize("layout", [contiguous, every_second, offset])
def test_gradcheck(layout: Callable[[Tensor], Tensor], index: torch.dtype, fill_value: float) -> None:
    for n in (0, 1, 2, 6):
        rowptr, col, value = (layout(tensor) for tensor in weighted(n, index))
        value = value.detach().requires_grad_()
        assert torch.autograd.gradcheck(lambda v, r=rowptr, c=col: opserve_ops.gcn_norm(r, c, v, fill_value)[2], value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_through_a_convolution(dtype: torch.dtype) -> None:
    """A layer as it is used: only the weights of the result carry a gradient."""
    rowptr, col, value = weighted(300, dtype=dtype)
    x, weight = random(300, 7, dtype=dtype), random(7, 5, dtype=dtype)

    def gradients(ops: object, value: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        leaves = [tensor.detach().clone().requires_grad_() for tensor in (value, *tensors)]
        graph = ops.gcn_norm(rowptr, col, leaves[0])
        assert [tensor.requires_grad for tensor in graph] == [False, False, True]
        out = ops.graph_conv_csr(*graph, *leaves[1:])
        return torch.autograd.grad(out.square().sum(), leaves)

    exact = gradients(reference, value.double(), x.double(), weight.double())
    for got, want in zip(gradients(opserve_ops, value, x, weight), exact, strict=True):
        assert got.dtype == dtype
        largest = want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=0, atol=2048 * torch.finfo(dtype).eps * largest)


def test_threads_do_not_change_a_gradient() -> None:
    rowptr, col, value = weighted(20_011, dtype=F32, degree=8)
    grad = random(len(value) + 20_011, dtype=F32, seed=3)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(torch.ops.opserve._gcn_norm_backward(grad, rowptr, col, value, 1.0))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_opcheck(index: torch.dtype) -> None:
    rowptr, col, value = weighted(9, index)
    grad = random(len(value) + 9)
    torch.library.opcheck(torch.ops.opserve.gcn_norm.default, (rowptr, col, value, 2.0))
    # The remaining check adds the results up, which PyTorch refuses of indices followed by weights.
    utilities = ("test_schema", "test_faketensor", "test_autograd_registration")
    for op, args in (
        ("gcn_norm", (rowptr, col, value.clone().requires_grad_(), 2.0)),
        ("_gcn_norm_backward", (grad, rowptr, col, value, 2.0)),
    ):
        torch.library.opcheck(getattr(torch.ops.opserve, op).default, args, test_utils=utilities)


def test_compiled_for_any_size() -> None:
    def weights(rowptr: Tensor, col: Tensor, value: Tensor) -> Tensor:
        return torch.ops.opserve.gcn_norm(rowptr, col, value, 2.0)[2].square().sum()

    compiled = torch.compile(weights, backend="aot_eager", fullgraph=True, dynamic=True)
    for n in (5, 40, 1):
        *indices, value = weighted(n)
        value.requires_grad_()
        (got,) = torch.autograd.grad(compiled(*indices, value), value)
        (want,) = torch.autograd.grad(weights(*indices, value), value)
        assert torch.equal(got, want)


def test_a_second_backward_is_refused() -> None:
    rowptr, col, value = weighted(9)
    value.requires_grad_()
    (grad,) = torch.autograd.grad(opserve_ops.gcn_norm(rowptr, col, value)[2].square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="opserve::_gcn_norm_backward: gradients of gradients are not supported"):
        grad.sum().backward()


# --- what is refused

ROWPTR, COL, VALUE = torch.tensor([0, 1, 1, 2]), torch.tensor([2, 0]), torch.ones(2)
GRAD = torch.ones(5)
INDICES = [
    ((ROWPTR + 1, COL), "rowptr must start at 0, got 1"),
    ((ROWPTR[[0, 3, 1, 3]], COL), "rowptr must not decrease, got rowptr[2] = 1 after 2"),
    ((ROWPTR, COL[:1]), "rowptr must end at nnz = 1, got 2"),
    ((ROWPTR, COL + 1), "col must be in [0, n = 3), got col[0] = 3"),
    ((ROWPTR, -COL), "col must be in [0, n = 3), got col[0] = -2"),
    ((ROWPTR[:1] + 1, COL[:0]), "rowptr must start at 0, got 1"),
]


@pytest.mark.parametrize(("indices", "message"), INDICES)
@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_wrong_indices_are_refused_on_the_cpu(indices: tuple[Tensor, Tensor], message: str, index: torch.dtype) -> None:
    rowptr, col = (tensor.to(index) for tensor in indices)
    value = torch.ones(len(col))
    with pytest.raises(RuntimeError, match=re.escape(f"opserve::gcn_norm: {message}")):
        opserve_ops.gcn_norm(rowptr, col, value)
    grad = torch.ones(len(col) + len(rowptr) - 1)
    with pytest.raises(RuntimeError, match=re.escape(f"opserve::_gcn_norm_backward: {message}")):
        torch.ops.opserve._gcn_norm_backward(grad, rowptr, col, value, 1.0)


def test_an_index_of_another_dtype_is_refused() -> None:
    """ONNX Runtime refuses it in words of its own: the type of `rowptr` is that of two results."""
    with pytest.raises(RuntimeError, match="opserve::gcn_norm: rowptr must be int32 or int64, got float32"):
        opserve_ops.gcn_norm(ROWPTR.float(), COL, VALUE)


REFUSED = [
    ((GRAD[None], ROWPTR, COL, VALUE), "grad must have 1 dimension, got 2"),
    ((GRAD[:4], ROWPTR, COL, VALUE), "grad must have nnz+n = 5 elements, got 4"),
    ((GRAD.double(), ROWPTR, COL, VALUE), "grad must have the dtype of value, float32, got float64"),
    ((GRAD, ROWPTR, COL, VALUE[:1]), "value must have nnz = 2 elements, got 1"),
]


@pytest.mark.parametrize(("args", "message"), REFUSED)
def test_a_wrong_gradient_is_refused(args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(f"opserve::_gcn_norm_backward: {message}")):
        torch.ops.opserve._gcn_norm_backward(*args, 1.0)


def test_indices_that_the_result_would_overflow_are_refused() -> None:
    rowptr, col = torch.zeros(1, dtype=I32).expand(2**30), torch.zeros(1, dtype=I32).expand(2**30 + 1)
    value = torch.zeros(1).expand(2**30 + 1)
    message = "opserve::gcn_norm: nnz + n must fit in the int32 of rowptr, got 1073741825 + 1073741823"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        opserve_ops.gcn_norm(rowptr, col, value)


# --- ONNX Runtime


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_onnx_runtime_infers_the_types_and_the_sizes_that_are_known(dtype: torch.dtype, index: torch.dtype) -> None:
    graph = weighted(4, index, dtype)
    nnz = len(graph[1])
    types = [
        {I32: "tensor(int32)", I64: "tensor(int64)", F32: "tensor(float)", F64: "tensor(double)"}[each.dtype]
        for each in (graph[0], graph[0], graph[2])
    ]
    for rows, entries, expected in ((5, nnz, [[5], [nnz + 4], [nnz + 4]]), ("rows", "entries", [["rows"], [], []])):
        shapes = {"rowptr": [rows], "col": [entries], "value": [entries]}
        loaded = session(onnx_model("gcn_norm", graph, shapes))
        assert [output.type for output in loaded.get_outputs()] == types
        assert [output.shape for output in loaded.get_outputs()] == expected
        assert_same(run_in(loaded, "gcn_norm", graph), opserve_ops.gcn_norm(*graph), str(rows))


# --- CUDA


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_rows_that_a_block_shares(backend: Backend, index: torch.dtype, dtype: torch.dtype) -> None:
    """Rows of many entries, among them all of a block's last."""
    n = 75
    counts = torch.arange(n) % 5
    counts[[0, 3, 40, 74]] = torch.tensor([513, 700, 2000, 600])
    rowptr = torch.cat((torch.zeros(1, dtype=I64), counts.cumsum(0)))
    col = torch.randint(0, n, (int(rowptr[-1]),), generator=torch.Generator().manual_seed(0))
    value, grad = random(len(col), dtype=dtype).abs() + 0.25, random(len(col) + n, dtype=dtype, seed=3)
    graph = (rowptr.to(index), col.to(index), value)
    exact = value.double().requires_grad_()
    want = reference.gcn_norm(*graph[:2], exact, 2.0)
    got = backend.call("gcn_norm", *graph, 2.0)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(got[2].double(), want[2], rtol=tolerance, atol=tolerance * 1e-3)
    for one, other in zip(backend.call("gcn_norm", *graph, 2.0), got, strict=True):
        assert torch.equal(one, other), "not the same in a second call"
    (gradient,) = torch.autograd.grad(want[2], exact, grad.double())
    got_gradient = backend.call("_gcn_norm_backward", grad, *graph, 2.0)
    largest = gradient.abs().max().item()
    torch.testing.assert_close(got_gradient.double(), gradient, rtol=0, atol=4 * tolerance * largest)


@pytest.mark.parametrize("rowptr", [[1, 2, 3, 6], [0, 4, 2, 6], [0, 2, 4, 7], [0, 2, 4, 5], [0, -1, 4, 6]], ids=str)
def test_a_wrong_rowptr_spoils_all_of_the_result_on_cuda(backend: Backend, rowptr: list[int]) -> None:
    wrong, col, value = torch.tensor(rowptr), torch.tensor([1, 2, 0, 1, 2, 0]), torch.ones(6)
    got = backend.call("gcn_norm", wrong, col, value)
    assert got[0].tolist() == [-1] * 4
    assert got[1].tolist() == [-1] * 9
    assert got[2].isnan().all()
    assert backend.call("graph_conv_csr", *got, torch.ones(3, 2), torch.ones(2, 2)).isnan().all()
    assert backend.call("_gcn_norm_backward", torch.ones(9), wrong, col, value, 1.0).isnan().all()


def test_a_wrong_rowptr_of_an_empty_graph_on_cuda(backend: Backend) -> None:
    got = backend.call("gcn_norm", torch.tensor([1]), torch.tensor([0, 0]), torch.ones(2))
    assert (got[0].tolist(), got[1].tolist()) == ([-1], [-1, -1])
    assert got[2].isnan().all()


@pytest.mark.parametrize("column", [3, -1, 2**62, -(2**63)])
def test_a_wrong_column_spoils_its_own_entry_on_cuda(backend: Backend, column: int) -> None:
    rowptr, col, value = torch.tensor([0, 2, 2, 3]), torch.tensor([1, column, 0]), torch.tensor([1.0, 2.0, 3.0])
    got = backend.call("gcn_norm", rowptr, col, value)
    assert got[0].tolist() == [0, 3, 4, 6]
    assert got[1].tolist() == [0, 1, column, 1, 2, 0]
    # The degrees are those of the rows, which the weight counts for.
    torch.testing.assert_close(got[2], torch.tensor([0.25, 0.5, NAN, 1.0, 0.25, 0.75]), equal_nan=True)
    assert backend.call("graph_conv_csr", *got, torch.ones(3, 1), torch.ones(1, 1)).isnan().tolist() == [
        *([True], [False], [False]),
    ]
    gradient = backend.call("_gcn_norm_backward", torch.ones(6), rowptr, col, value, 1.0)
    assert gradient.isnan().tolist() == [False, True, False]


def test_gradients_of_unusual_nodes_on_cuda(backend: Backend) -> None:
    """Degrees of 0, loops that are there, and rows without entries."""
    for fill_value in (1.0, 0.0):
        rowptr, col = torch.tensor([0, 2, 3, 3]), torch.tensor([0, 1, 1])
        value = torch.tensor([1.0, -1.0, 4.0], dtype=F64, requires_grad=True)
        grad = random(6)
        (want,) = torch.autograd.grad(reference.gcn_norm(rowptr, col, value, fill_value)[2], value, grad)
        got = backend.call("_gcn_norm_backward", grad, rowptr, col, value.detach(), fill_value)
        torch.testing.assert_close(got, want)
