"""Gradients of the graph convolutions: against numbers, against PyTorch, compiled, scripted, and what is refused."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import opserve_ops
from opserve_ops import reference
from tests.extensions.samples import DTYPES, INDEX_DTYPES, csr, random
from tests.extensions.test_forward import contiguous, every_second, offset, transposed

LAYOUTS = [contiguous, transposed, every_second, offset]
# k < f, k > f, k = f; more than one tile; nothing in one direction.
SHAPES = [(5, 3, 2), (5, 2, 3), (4, 3, 3), (1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0)]


def leaf(tensor: Tensor, layout: Callable[[Tensor], Tensor] = contiguous) -> Tensor:
    return layout(tensor.detach().clone()).detach().requires_grad_()


def dense(n: int, f: int, k: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return tuple(random(*shape, dtype=dtype) for shape in ((n, n), (n, f), (f, k), (k,)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_graph_conv_gradcheck(shape: tuple[int, int, int], layout: Callable[[Tensor], Tensor]) -> None:
    a, x, weight, bias = (leaf(tensor, layout) for tensor in dense(*shape))
    assert torch.autograd.gradcheck(opserve_ops.graph_conv, (a, x, weight, bias))
    assert torch.autograd.gradcheck(opserve_ops.graph_conv, (a, x, weight))


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_graph_conv_csr_gradcheck(
    shape: tuple[int, int, int], layout: Callable[[Tensor], Tensor], index: torch.dtype
) -> None:
    n, f, k = shape
    rowptr, col = (layout(tensor) for tensor in csr(n, 3, index))
    value, x, weight, bias = (leaf(random(*size), layout) for size in ((len(col),), (n, f), (f, k), (k,)))

    def convolve(*args: Tensor | None) -> Tensor:
        return opserve_ops.graph_conv_csr(rowptr, col, *args)

    assert torch.autograd.gradcheck(convolve, (value, x, weight, bias))
    assert torch.autograd.gradcheck(convolve, (value, x, weight))
    assert torch.autograd.gradcheck(lambda x, w: convolve(None, x, w), (x, weight))


def test_gradcheck_without_entries() -> None:
    rowptr, col, value = torch.zeros(5, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), leaf(random(0))
    for f, k in ((3, 2), (2, 3)):
        args = (value, leaf(random(4, f)), leaf(random(f, k)), leaf(random(k)))
        assert torch.autograd.gradcheck(lambda *args: opserve_ops.graph_conv_csr(rowptr, col, *args), args)


def test_gradcheck_of_expanded_inputs() -> None:
    a, x, weight, bias = leaf(random(1, 4)), leaf(random(1, 3)), leaf(random(3, 1)), leaf(random(1))
    rowptr, col = csr(4, 3, torch.int64)
    value = leaf(random(1))

    def expanded(a: Tensor, value: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        rest = (x.expand(4, 3), weight.expand(3, 2), bias.expand(2))
        return (
            opserve_ops.graph_conv(a.expand(4, 4), *rest),
            opserve_ops.graph_conv_csr(rowptr, col, value.expand(len(col)), *rest),
        )

    assert torch.autograd.gradcheck(expanded, (a, value, x, weight, bias))


def test_an_expanded_gradient() -> None:
    """What `sum` passes back has no strides."""
    args = tuple(leaf(tensor) for tensor in dense(6, 5, 4))
    opserve_ops.graph_conv(*args).sum().backward()
    exact = tuple(leaf(tensor) for tensor in args)
    reference.graph_conv(*exact).sum().backward()
    for got, want in zip(args, exact, strict=True):
        torch.testing.assert_close(got.grad, want.grad)


LARGE = [(300, 40, 17), (130, 17, 40), (95, 150, 290), (157, 128, 7)]


def assert_near(got: Tensor, want: Tensor, dtype: torch.dtype) -> None:
    largest = max(want.abs().max().item(), 1.0)
    assert got.shape == want.shape
    assert (got.double() - want).abs().max() <= 256 * torch.finfo(dtype).eps * largest


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_every_choice_of_gradients_at_sizes_of_many_tiles(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, f, k = shape
    a, x, weight, bias = dense(n, f, k, dtype)
    rowptr, col = csr(n, 5, torch.int64)
    value, grad = random(len(col), dtype=dtype), random(n, k, dtype=dtype, seed=3)

    def expected(convolve: Callable[..., Tensor], *args: Tensor) -> tuple[Tensor, ...]:
        exact = tuple(leaf(tensor.double()) for tensor in args)
        return torch.autograd.grad(convolve(*exact), exact, grad.double())

    dense_grads = expected(reference.graph_conv, a, x, weight, bias)
    sparse_grads = expected(lambda *args: reference.graph_conv_csr(rowptr, col, *args), value, x, weight, bias)
    ones_grads = expected(lambda *args: reference.graph_conv_csr(rowptr, col, None, *args), x, weight, bias)
    nothing = torch.empty(0, dtype=dtype)
    for needs in itertools.product((True, False), repeat=4):
        got = torch.ops.opserve._graph_conv_backward(grad, a, x, weight, needs)
        sparse = torch.ops.opserve._graph_conv_csr_backward(grad, rowptr, col, value, x, weight, needs)
        ones = torch.ops.opserve._graph_conv_csr_backward(grad, rowptr, col, None, x, weight, needs)
        wanted = (dense_grads, sparse_grads, (nothing.double(), *ones_grads))
        for mine, theirs in zip((got, sparse, ones), wanted, strict=True):
            for gradient, exact, needed in zip(mine, theirs, needs, strict=True):
                assert gradient.dtype == dtype
                if needed and exact.numel():
                    assert_near(gradient, exact, dtype)
                else:
                    assert gradient.shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("f", "k"), [(40, 17), (17, 40), (64, 64), (300, 7)])
def test_threads_do_not_change_anything(f: int, k: int, dtype: torch.dtype) -> None:
    n = 3001
    rowptr, col = csr(n, 12, torch.int32)
    value, x, weight, bias = (random(*size, dtype=dtype) for size in ((len(col),), (n, f), (f, k), (k,)))
    a, few, grad = random(400, 400, dtype=dtype), x[:400], random(n, k, dtype=dtype, seed=3)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(
                (
                    opserve_ops.graph_conv_csr(rowptr, col, value, x, weight, bias),
                    opserve_ops.graph_conv(a, few, weight, bias),
                    *torch.ops.opserve._graph_conv_csr_backward(grad, rowptr, col, value, x, weight, [True] * 4),
                    *torch.ops.opserve._graph_conv_backward(grad[:400], a, few, weight, [True] * 4),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert torch.equal(got, want)


NAN, INF = float("nan"), float("inf")


def planted(tensors: tuple[Tensor, ...], at: int, value: float) -> tuple[Tensor, ...]:
    """With one element of one of them replaced, neither the first nor the last."""
    tensors = tuple(tensor.clone() for tensor in tensors)
    tensors[at].view(-1)[tensors[at].numel() // 2] = value
    return tensors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("f", "k"), [(5, 3), (3, 5), (40, 17)])
def test_special_values_in_dense_gradients(f: int, k: int, dtype: torch.dtype) -> None:
    """As IEEE says in the order of the products that the header gives; a zero does not hide a NaN."""
    n = 9
    good = (random(n, k, dtype=dtype), *dense(n, f, k, dtype)[:3])
    good[1][:, n // 2] = 0
    for at in range(4):
        for value in (NAN, INF, -INF):
            grad, a, x, weight = args = planted(good, at, value)
            if k <= f:
                back = a.T @ grad
                expected = (grad @ (x @ weight).T, back @ weight.T, x.T @ back, grad.sum(0))
            else:
                back = grad @ weight.T
                expected = (back @ x.T, a.T @ back, (a @ x).T @ grad, grad.sum(0))
            got = torch.ops.opserve._graph_conv_backward(*args, [True] * 4)
            for mine, theirs in zip(got, expected, strict=True):
                torch.testing.assert_close(mine, theirs, equal_nan=True, msg=lambda m, c=(at, value): f"{c}: {m}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("f", "k"), [(5, 3), (3, 5), (40, 17)])
def test_nan_in_sparse_gradients(f: int, k: int, dtype: torch.dtype) -> None:
    """It goes where entries lead, and nowhere else."""
    n = 11
    rowptr, col = csr(n, 4, torch.int64)
    # An entry, its row and column: a row or column without any would hide what the other order of products shows.
    entry, row = 1, int(torch.repeat_interleave(torch.arange(n), rowptr.diff())[1])
    for at, place in enumerate(((row, 1), (entry,), (int(col[entry]), 1), (1, 1))):
        grad, *args = (random(n, k, dtype=dtype), random(len(col), dtype=dtype), *dense(n, f, k, dtype)[1:3])
        (grad, *args)[at][place] = NAN
        exact = [leaf(tensor) for tensor in args]
        expected = torch.autograd.grad(reference.graph_conv_csr(rowptr, col, *exact), exact, grad)
        got = torch.ops.opserve._graph_conv_csr_backward(grad, rowptr, col, *args, [True] * 4)
        assert any(tensor.isnan().any() and not tensor.isnan().all() for tensor in got)
        for mine, theirs in zip(got, (*expected, grad.sum(0)), strict=True):
            torch.testing.assert_close(mine, theirs, equal_nan=True, msg=lambda m, at=at: f"{at}: {m}")


def backward_calls() -> list[tuple[str, tuple]]:
    a, x, weight, _ = dense(5, 4, 3)
    rowptr, col = csr(5, 3, torch.int64)
    value, grad = random(len(col)), random(5, 3)
    calls: list[tuple[str, tuple]] = []
    for needs in ([True] * 4, [False] * 4, [True, False, False, True], [False, True, True, False]):
        calls.append(("_graph_conv_backward", (grad, a, x, weight, needs)))
        calls.append(("_graph_conv_csr_backward", (grad, rowptr, col, value, x, weight, needs)))
        calls.append(("_graph_conv_csr_backward", (grad, rowptr, col, None, x, weight, needs)))
    calls.append(("_graph_conv_backward", (*(t.mT.contiguous().mT for t in (grad, a, x, weight)), [True] * 4)))
    return calls


@pytest.mark.parametrize(("op", "args"), backward_calls(), ids=lambda value: value if isinstance(value, str) else "")
def test_opcheck_of_backward(op: str, args: tuple) -> None:
    overload = getattr(torch.ops.opserve, op).default
    torch.library.opcheck(overload, args, test_utils=("test_schema", "test_faketensor", "test_autograd_registration"))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_opcheck_with_gradients(biased: bool, weighted: bool) -> None:
    a, x, weight, bias = (leaf(tensor) for tensor in dense(5, 4, 3))
    rowptr, col = csr(5, 3, torch.int64)
    value = leaf(random(len(col))) if weighted else None
    tail = (x, weight, bias if biased else None)
    torch.library.opcheck(torch.ops.opserve.graph_conv.default, (a, *tail))
    torch.library.opcheck(torch.ops.opserve.graph_conv_csr.default, (rowptr, col, value, *tail))


@pytest.mark.parametrize("op", ["graph_conv", "graph_conv_csr"])
def test_a_second_backward_is_refused(op: str) -> None:
    a, x, weight, bias = (leaf(tensor) for tensor in dense(5, 4, 3))
    matrix = (a,) if op == "graph_conv" else (*csr(5, 3, torch.int64), None)
    result = getattr(opserve_ops, op)(*matrix, x, weight, bias)
    (grad,) = torch.autograd.grad(result.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match=f"opserve::_{op}_backward: gradients of gradients are not supported"):
        grad.sum().backward()


class Network(torch.nn.Module):
    """Two sparse layers and a dense one."""

    def __init__(self) -> None:
        super().__init__()
        shapes = ((6, 9), (9,), (9, 4), (4,), (4, 3))
        self.weights = torch.nn.ParameterList(torch.nn.Parameter(random(*shape, seed=7)) for shape in shapes)

    def forward(self, rowptr: Tensor, col: Tensor, value: Tensor, x: Tensor, a: Tensor) -> Tensor:
        hidden = torch.ops.opserve.graph_conv_csr(rowptr, col, value, x, self.weights[0], self.weights[1])
        hidden = torch.ops.opserve.graph_conv_csr(rowptr, col, None, hidden.tanh(), self.weights[2], self.weights[3])
        return torch.ops.opserve.graph_conv(a, hidden.tanh(), self.weights[4], None)


class Plain(Network):
    """The same in PyTorch's own operators."""

    def forward(self, rowptr: Tensor, col: Tensor, value: Tensor, x: Tensor, a: Tensor) -> Tensor:
        hidden = reference.graph_conv_csr(rowptr, col, value, x, self.weights[0], self.weights[1])
        hidden = reference.graph_conv_csr(rowptr, col, None, hidden.tanh(), self.weights[2], self.weights[3])
        return a @ hidden.tanh() @ self.weights[4]


def network_inputs() -> tuple[Tensor, ...]:
    rowptr, col = csr(11, 4, torch.int64)
    return rowptr, col, random(len(col)), random(11, 6), random(11, 11)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["eager", "script", "trace", "compile"])
def test_training_is_that_of_plain_pytorch(how: str) -> None:
    ours, plain = Network(), Plain()
    inputs = network_inputs()
    model: Callable[..., Tensor] = ours
    if how == "script":
        model = torch.jit.script(ours)
    elif how == "trace":
        model = torch.jit.trace(ours, inputs)
    elif how == "compile":
        model = torch.compile(ours, backend="aot_eager", fullgraph=True)
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.05) for module in (ours, plain)]
    losses = []
    for _ in range(5):
        for module, optimizer in zip((model, plain), optimizers, strict=True):
            optimizer.zero_grad()
            loss = module(*inputs).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    for got, want in zip(ours.parameters(), plain.parameters(), strict=True):
        assert want.grad.abs().max() > 0
        torch.testing.assert_close(got, want)


X, W = torch.zeros(3, 2), torch.zeros(2, 4)
A, GRAD = torch.zeros(3, 3), torch.zeros(3, 4)
ROWPTR, COL = torch.tensor([0, 1, 1, 2]), torch.tensor([2, 0])
ALL = [True] * 4
REFUSED = [
    ("_graph_conv_backward", (GRAD[0], A, X, W, ALL), "_graph_conv_backward: grad must have 2 dimensions, got 1"),
    ("_graph_conv_backward", (GRAD[:2], A, X, W, ALL), "_graph_conv_backward: grad must have n = 3 rows, got 2"),
    ("_graph_conv_backward", (X, A, X, W, ALL), "_graph_conv_backward: grad must have k = 4 columns, got 2"),
    (
        "_graph_conv_backward",
        (GRAD.double(), A, X, W, ALL),
        "_graph_conv_backward: grad must have the dtype of x, float32, got float64",
    ),
    ("_graph_conv_backward", (GRAD, A, X, W[:1], ALL), "graph_conv: weight must have f = 2 rows, got 1"),
    (
        "_graph_conv_backward",
        (GRAD.half(), A.half(), X.half(), W.half(), ALL),
        "_graph_conv_backward: x must be float32 or float64 on the CPU, got float16",
    ),
    (
        "_graph_conv_csr_backward",
        (X, ROWPTR, COL, None, X, W, ALL),
        "_graph_conv_csr_backward: grad must have k = 4 columns, got 2",
    ),
    (
        "_graph_conv_csr_backward",
        (GRAD, ROWPTR, COL, torch.zeros(3), X, W, ALL),
        "graph_conv_csr: value must have nnz = 2 elements, got 3",
    ),
    (
        "_graph_conv_csr_backward",
        (GRAD, ROWPTR + 1, COL, None, X, W, ALL),
        "_graph_conv_csr_backward: rowptr must start at 0, got 1",
    ),
    (
        "_graph_conv_csr_backward",
        (GRAD, ROWPTR, COL + 1, None, X, W, ALL),
        "_graph_conv_csr_backward: col must be in [0, n = 3), got col[0] = 3",
    ),
    (
        "_graph_conv_csr_backward",
        (GRAD, ROWPTR, COL - 2**40, None, X, W, [False] * 4),
        "_graph_conv_csr_backward: col must be in [0, n = 3), got col[0] = -1099511627774",
    ),
]


@pytest.mark.parametrize(("op", "args", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_refused(op: str, args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError) as error:
        getattr(torch.ops.opserve, op)(*args)
    assert str(error.value).startswith(f"opserve::{message}")


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_check_csr_says_what_the_operator_says(index: torch.dtype) -> None:
    low = torch.iinfo(index).min
    good = [([0, 1, 1, 2], [2, 0]), ([0, 0, 0, 0], []), ([0], [])]
    bad = [
        ([1, 1, 1, 2], [2, 0]),
        ([-1, 1, 1, 2], [2, 0]),
        ([0, 2, 1, 2], [2, 0]),
        ([0, low, 1, 2], [2, 0]),
        ([0, 1, 1, 3], [2, 0]),
        ([0, 1, 1, 1], [2, 0]),
        ([0, 1, 1, 2], [2, 3]),
        ([0, 1, 1, 2], [-1, 0]),
        ([0, 1, 1, 2], [2, low]),
        ([0, 1, 1, 2], [2, -1 - low]),
        ([0], [0]),
    ]
    for rowptr, col in good:
        n = len(rowptr) - 1
        torch.ops.opserve.check_csr(torch.tensor(rowptr, dtype=index), torch.tensor(col, dtype=index), n)
    for rowptr, col in bad:
        n = len(rowptr) - 1
        matrix = torch.tensor(rowptr, dtype=index), torch.tensor(col, dtype=index)
        messages = []
        for f in (1, 3):
            x, weight = torch.zeros(n, f), torch.zeros(f, 2)
            with pytest.raises(RuntimeError) as error:
                opserve_ops.graph_conv_csr(*matrix, None, x, weight)
            messages.append(str(error.value).splitlines()[0])
        with pytest.raises(RuntimeError) as error:
            torch.ops.opserve.check_csr(*matrix, n)
        messages.append(str(error.value).splitlines()[0].replace("check_csr", "graph_conv_csr"))
        assert len(set(messages)) == 1
