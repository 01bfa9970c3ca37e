"""The CUDA kernels and their binding against the reference: on a GPU where there is one, and emulated everywhere.

Emulated, the same sources run on the CPU (extensions/tests/emulation): indices, guards, barriers and arithmetic are
tested without a GPU; streams, devices and memory of gigabytes only with one.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

import opserve_ops
from opserve_ops import reference
from tests.extensions import test_rejected
from tests.extensions.cuda_backend import CUDA, Backend
from tests.extensions.cuda_backend import emulated as emulated
from tests.extensions.samples import (
    DTYPES,
    HOMOGRAPHY,
    INDEX_DTYPES,
    OPS,
    SAMPLES,
    Sample,
    csr,
    map_tensors,
    random,
    results,
)
from tests.extensions.test_forward import contiguous, every_second, offset, transposed

NAN, INF = float("nan"), float("inf")
HALF = (torch.float16, torch.bfloat16)
ALL_DTYPES = (*DTYPES, *HALF)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=needs_gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.getfixturevalue("emulated") if request.param == "emulated" else CUDA


def exact(args: tuple) -> tuple:
    return map_tensors(args, lambda t: t.double() if t.is_floating_point() else t)


def assert_near(
    result: Tensor | tuple[Tensor, ...],
    expected: Tensor | tuple[Tensor, ...],
    roundings: float,
    name: str = "",
    coarsest: float = 0.0,
) -> None:
    """Expects a result within `roundings` of the dtype, relative to the largest element; indices must be equal.

    Half types are summed in float32, so what counts
    there is the rounding of the result and of what passes between two products.
    """
    if not isinstance(result, Tensor) or not isinstance(expected, Tensor):
        for each, its in zip(results(result), results(expected), strict=True):
            assert_near(each, its, roundings, name, coarsest)
        return
    if not result.is_floating_point():
        assert torch.equal(result, expected), name
        return
    assert result.shape == expected.shape, name
    # A matrix in float64 is no more precise than the image its gradient comes from.
    eps = max(torch.finfo(result.dtype).eps, coarsest)
    largest = max(expected.abs().max().item(), 1.0) if expected.numel() else 1.0
    tolerance = (2.0 if result.dtype in HALF else roundings) * eps * largest
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance, msg=lambda m: f"{name}: {m}")


# --- forward


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [(dtype, contiguous) for dtype in ALL_DTYPES] + [(torch.float32, layout) for layout in (transposed, offset)],
)
@pytest.mark.parametrize("op", OPS)
def test_matches_reference(backend: Backend, op: str, dtype: torch.dtype, layout: Callable[[Tensor], Tensor]) -> None:
    for sample in SAMPLES[op](dtype):
        args = map_tensors(sample.args, layout)
        found = backend.call(op, *args)
        assert all(result.dtype == dtype or not result.is_floating_point() for result in results(found))
        assert all(result.is_contiguous() for result in results(found))
        assert_near(found, getattr(reference, op)(*exact(args)), sample.roundings, sample.name)


@pytest.mark.parametrize("op", OPS)
def test_expanded_and_strided_inputs(backend: Backend, op: str) -> None:
    sample = next(s for s in reversed(list(SAMPLES[op](torch.float32))) if all(t.numel() for t in tensors(s.args)))
    strided = map_tensors(sample.args, every_second)
    assert_near(backend.call(op, *strided), getattr(reference, op)(*exact(strided)), sample.roundings)
    if op == "warp_perspective":
        args = (random(1, 1, 20, 30).expand(2, 3, 20, 30), HOMOGRAPHY.expand(2, 3, 3), (9, 11))
    else:
        args = map_tensors(sample.args, lambda t: t[:1].expand(t.shape) if t.is_floating_point() else t)
    assert_near(backend.call(op, *args), getattr(reference, op)(*exact(args)), 512)


def tensors(args: tuple) -> list[Tensor]:
    return [arg for arg in args if isinstance(arg, Tensor)]


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_scaled_add_at_every_alignment(backend: Backend, dtype: torch.dtype) -> None:
    """Aligned as the kernel likes it, and not; with whole packs, a rest and both."""
    memory = [random(3000, dtype=dtype, seed=seed) for seed in (0, 1)]
    for count in (1, 2, 7, 8, 9, 31, 1024, 2900):
        for left, right in ((0, 0), (1, 1), (3, 3), (7, 7), (0, 1), (5, 2)):
            x, y = memory[0][left : left + count], memory[1][right : right + count]
            result = backend.call("scaled_add", x, y, -1.5)
            assert_near(result, -1.5 * x.double() + y.double(), 4, f"{count} {left} {right}")


def test_scaled_add_rounds_alpha_to_the_dtype_first(backend: Backend) -> None:
    alpha = 1.0 + 2.0**-12
    for dtype in HALF:
        one = torch.ones(5, dtype=dtype)
        assert torch.equal(backend.call("scaled_add", one, 0 * one, alpha), one)
    one = torch.ones(5)
    assert torch.equal(backend.call("scaled_add", one, 0 * one, alpha), alpha * one)


def skewed_csr(n: int, index: torch.dtype, long_rows: tuple[int, ...], length: int) -> tuple[Tensor, Tensor]:
    """Mostly short rows, and some that blocks of threads share."""
    generator = torch.Generator().manual_seed(n)
    counts = torch.randint(0, 5, (n,), generator=generator)
    counts[list(long_rows)] = length
    rowptr = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    col = torch.randint(0, n, (int(rowptr[-1]),), generator=generator)
    return rowptr.to(index), col.to(index)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 3, 4, 16, 33, 130, 260])
def test_graph_conv_csr_shares_long_rows(backend: Backend, dtype: torch.dtype, width: int) -> None:
    for index, long_rows in ((torch.int32, (0, 3, 4, 41)), (torch.int64, (39,))):
        rowptr, col = skewed_csr(42, index, long_rows, 613)
        value, x = random(len(col), dtype=dtype), random(42, width, dtype=dtype)
        identity, bias = torch.eye(width, dtype=dtype), random(width, dtype=dtype)
        args = (rowptr, col, value, x, identity, bias)
        result = backend.call("graph_conv_csr", *args)
        assert_near(result, reference.graph_conv_csr(*exact(args)), 64, str(index))
        assert torch.equal(result, backend.call("graph_conv_csr", *args)), "not the same in a second call"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_whole_pixels_are_exact(backend: Backend, dtype: torch.dtype) -> None:
    image = random(3, 50, 200, dtype=dtype)
    assert torch.equal(backend.call("warp_perspective", image, torch.eye(3), (50, 200)), image)
    shift = torch.tensor([[1.0, 0, 3], [0, 1, -2], [0, 0, 1]])
    shifted = backend.call("warp_perspective", image, -4 * shift, (50, 200))
    assert torch.equal(shifted[:, :48, 3:], image[:, 2:, :-3])
    assert (shifted[:, :, :3] == 0).all()
    assert (shifted[:, 48:] == 0).all()


def test_float32_geometry_does_not_lose_precision_with_size(backend: Backend) -> None:
    """Far from the origin float32 coordinates would be wrong by 2^-9 pixels; the image is a slope, so it shows."""
    w = 20_000
    image = (torch.arange(w, dtype=torch.float64) % 64).repeat(2, 1)
    matrix = torch.tensor([[1.25, 0.0, -3.7], [0.0, 1.0, 0.0], [1e-6, 0.0, 1.0]], dtype=torch.float64)
    result = backend.call("warp_perspective", image.float(), matrix, (1, w))
    expected = reference.warp_perspective(image, matrix, (1, w))
    # Where the slope starts again a position may fall on either side.
    near = (result.double() - expected).abs() < 64 * 2**-14
    assert near.double().mean() > 0.9999


def test_the_horizon_is_zero_and_its_neighbourhood_right(backend: Backend) -> None:
    """Tiles through which the horizon runs leave the fast path."""
    matrix = torch.linalg.inv(torch.tensor([[1.0, 0.1, 1], [0, 1, 1], [-0.02, 0, 1]], dtype=torch.float64))
    image = random(1, 200, 200, dtype=torch.float32)
    result = backend.call("warp_perspective", image, matrix, (100, 130))
    assert (result[:, :, 50] == 0).all()
    expected = reference.warp_perspective(image.double(), matrix, (100, 130))
    assert (result.double() - expected).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_many_tiles_of_many_rows(backend: Backend, dtype: torch.dtype) -> None:
    """So many that a thread takes several rows: another kernel than for small results."""
    image = random(2, 1, 40, 60, dtype=dtype)
    matrices = torch.stack((HOMOGRAPHY, -HOMOGRAPHY @ torch.diag(torch.tensor([12.0, 9.0, 1.0]).double())))
    size = (17, 32 * 512 + 5)
    result = backend.call("warp_perspective", image, matrices, size)
    assert_near(result, reference.warp_perspective(image.double(), matrices, size), 2048)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_own_product(emulated: Backend, dtype: torch.dtype) -> None:
    """The kernel for callers without a better one. PyTorch is not such a caller, so only the emulation offers it."""
    product = emulated.op("product")
    for m, k, n in ((0, 3, 2), (2, 0, 3), (1, 1, 1), (130, 17, 7), (65, 33, 70), (3, 100, 129)):
        for layout in (contiguous, transposed, every_second):
            a, b = layout(random(m, k, dtype=dtype)), layout(random(k, n, dtype=dtype))
            bias = random(n, dtype=dtype)
            assert_near(product(a, b, None), a.double() @ b.double(), 64, f"{m} {k} {n}")
            assert_near(product(a, b, bias), a.double() @ b.double() + bias.double(), 64, f"{m} {k} {n}")


# --- backward


def gradients(op: str, args: tuple, grad: Tensor, wanted: tuple[int, ...]) -> list[Tensor]:
    """Of the reference in float64, for the arguments at `wanted`."""
    args = list(exact(args))
    for position in wanted:
        args[position] = args[position].detach().clone().requires_grad_()
    result = getattr(reference, op)(*args)
    found = torch.autograd.grad(result, [args[i] for i in wanted], grad.double(), allow_unused=True)
    return [torch.zeros_like(args[i]) if g is None else g for i, g in zip(wanted, found, strict=True)]


def choices(count: int) -> Iterator[list[bool]]:
    """All, each alone, none."""
    yield [True] * count
    for i in range(count):
        yield [i == j for j in range(count)]
    yield [False] * count


def check_backward(backend: Backend, op: str, args: tuple, wanted: tuple[int, ...], roundings: float) -> None:
    """`wanted`: the positions in `args` that have gradients."""
    result = getattr(reference, op)(*exact(args))
    dtype = next(arg.dtype for arg in args if isinstance(arg, Tensor) and arg.is_floating_point())
    grad = random(*result.shape, dtype=dtype, seed=5)
    present = tuple(i for i in wanted if i < len(args) and args[i] is not None)
    expected = dict(zip(present, gradients(op, args, grad, present), strict=True))
    # All but the bias.
    inputs = args[:-1] if op.startswith("graph") else args
    for needs in choices(len(wanted)):
        results = backend.call(f"_{op}_backward", grad, *inputs, needs)
        for position, need, found in zip(wanted, needs, results, strict=True):
            name = f"gradient of argument {position}, {needs}, {[tuple(t.shape) for t in tensors(args)]}"
            if need and position in expected:
                assert_near(found, expected[position], roundings, name, 0.0 if dtype == torch.float64 else 2.0**-23)
            else:
                assert found.shape == (0,), name


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_scaled_add_backward(backend: Backend, dtype: torch.dtype) -> None:
    for shape in ((), (0,), (7,), (3, 5), (2500,)):
        grad = random(*shape, dtype=dtype)
        grad_x, grad_y = backend.call("_scaled_add_backward", grad, -0.3)
        assert_near(grad_x, -0.3 * grad.double(), 4)
        assert torch.equal(grad_y, grad)
    shifted = random(2000, dtype=dtype)[3:]
    assert torch.equal(backend.call("_scaled_add_backward", shifted, 2.0)[0], 2 * shifted)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_graph_conv_backward(backend: Backend, dtype: torch.dtype) -> None:
    for n, f, k in ((0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (34, 16, 7), (20, 7, 33)):
        args = (random(n, n), random(n, f), random(f, k), random(k))
        check_backward(backend, "graph_conv", map_tensors(args, lambda t: t.to(dtype)), (0, 1, 2, 3), 256)
    # The bias's gradient is summed in several parts.
    args = (random(1, 1).expand(2100, 2100), random(2100, 2), random(2, 3), random(3))
    grad = random(2100, 3, dtype=dtype)
    needs = [False, False, False, True]
    args = map_tensors(args, lambda t: t.to(dtype))
    sums = backend.call("_graph_conv_backward", grad, *args[:3], needs)[3]
    assert_near(sums, grad.double().sum(0), 64)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_graph_conv_csr_backward(backend: Backend, dtype: torch.dtype, index: torch.dtype) -> None:
    for n, f, k in ((0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (18, 40, 50), (20, 8, 33), (42, 40, 5)):
        graph = skewed_csr(n, index, (0, 33), 530) if n == 42 else csr(n, 4, index)
        # Half types: sums of few terms, so that what is rounded in between stays small beside the result.
        for value in (None, random(len(graph[1])).to(dtype)):
            args = (*graph, value, *(t.to(dtype) for t in (random(n, f), random(f, k), random(k))))
            check_backward(backend, "graph_conv_csr", args, (2, 3, 4, 5), 256)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_warp_perspective_backward(backend: Backend, dtype: torch.dtype) -> None:
    general = random_matrices(3)
    for shape, matrix, size in (
        ((13, 9), general[0].float(), (20, 70)),
        ((2, 40, 50), general[1], (37, 41)),
        ((3, 2, 40, 50), general[0], (37, 41)),
        ((3, 2, 40, 50), general, (37, 41)),
        ((0, 2, 4, 4), general[0], (3, 3)),
        ((2, 0, 4), general[0], (3, 3)),
        ((4, 4), general[0], (0, 3)),
    ):
        # A smooth image: where it has kinks, float32 positions may fall on either side of one.
        image = smooth(*shape).to(dtype)
        check_backward(backend, "warp_perspective", (image, matrix, size), (0, 1), 4096)


def random_matrices(count: int) -> Tensor:
    """Homographies that put no destination pixel on a whole source pixel, where the slope jumps."""
    return HOMOGRAPHY + 0.0137 * random(count, 3, 3) * torch.tensor([1, 1, 30, 1, 1, 30, 0.01, 0.01, 1]).reshape(3, 3)


def smooth(*shape: int) -> Tensor:
    y, x = (torch.arange(size, dtype=torch.float64) for size in shape[-2:])
    plane = torch.sin(0.21 * x)[None, :] * torch.cos(0.17 * y)[:, None]
    return plane * random(*shape[:-2], 1, 1)


# --- guards: no index that comes from data is followed unseen


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
@pytest.mark.parametrize(("f", "k"), [(3, 8), (8, 3), (0, 4), (64, 64)])
def test_a_bad_index_makes_its_row_nan_and_no_other(backend: Backend, index: torch.dtype, f: int, k: int) -> None:
    n = 40
    rowptr, col = skewed_csr(n, index, (7,), 700)
    value, x, weight, bias = random(len(col)), random(n, f), random(f, k), random(k)
    expected = reference.graph_conv_csr(rowptr, col, value, x, weight, bias)
    end = int(rowptr[-1])
    row_of = torch.repeat_interleave(torch.arange(n), rowptr.diff().long())
    far = torch.iinfo(index).max
    cases: list[tuple[str, int, int, set[int]]] = [
        # (which tensor, where, what, rows that must be NaN)
        *(("col", at, bad, {int(row_of[at])}) for at in (0, 100, end - 1) for bad in (-1, n, far, -far)),
        # Each end belongs to two rows.
        *(("rowptr", 20, bad, {19, 20}) for bad in (-1, far, -far, end + 1)),
        ("rowptr", 0, 1, {0}),
        ("rowptr", 0, -1, {0}),
        ("rowptr", n, end - 1, {n - 1}),
        ("rowptr", n, end + 1, {n - 1}),
        ("rowptr", n, far, {n - 1}),
    ]
    for name, at, bad, rows in cases:
        broken = {"rowptr": rowptr.clone(), "col": col.clone()}
        broken[name][at] = bad
        result = backend.call("graph_conv_csr", broken["rowptr"], broken["col"], value, x, weight, bias)
        case = f"{name}[{at}] = {bad}"
        good = torch.tensor([row not in rows for row in range(n)])
        assert result[~good].isnan().all(), case
        torch.testing.assert_close(result[good], expected[good], msg=lambda m, case=case: f"{case}: {m}")
    # The device still works.
    assert torch.equal(backend.call("scaled_add", x, x, 0.0), x)


@pytest.mark.parametrize(("f", "k"), [(3, 8), (8, 3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_a_bad_index_is_left_out_of_the_gradients(backend: Backend, f: int, k: int, dtype: torch.dtype) -> None:
    n = 40
    rowptr, col = skewed_csr(n, torch.int64, (7,), 700)
    args = [t.to(dtype) for t in (random(len(col)), random(n, f), random(f, k))]
    grad = random(n, k, dtype=dtype)
    broken = col.clone()
    broken[3], broken[60] = 2**40, -5
    rowptr[21] = -1
    needs = [True] * 4
    found = backend.call("_graph_conv_csr_backward", grad, rowptr, broken, *args, needs)
    rows = torch.tensor([row not in (20, 21) for row in range(n)])
    bounds = zip(rowptr[:-1].tolist(), rowptr[1:].tolist(), strict=True)
    known = torch.zeros(len(col), dtype=torch.bool)
    for row, (begin, end) in enumerate(bounds):
        if rows[row]:
            known[begin:end] = True
    known[[3, 60]] = False
    assert torch.equal(found[0].isnan(), ~known)
    # As if those entries were not there.
    row_of = torch.repeat_interleave(torch.arange(n), skewed_csr(n, torch.int64, (7,), 700)[0].diff())
    counts = torch.bincount(row_of[known], minlength=n)
    smaller = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    expected = gradients("graph_conv_csr", (smaller, col[known], args[0][known], *args[1:]), grad, (2, 3, 4))
    assert_near(found[0][known], expected[0], 256)
    assert_near(found[1], expected[1], 256)
    if k <= f:
        assert_near(found[2], expected[2], 256)
    else:
        assert found[2].isnan().all()


BAD_MATRICES = [
    torch.zeros(3, 3),
    torch.eye(3)[[0, 1, 1]],
    torch.eye(3) * NAN,
    torch.eye(3).index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(INF)),
    torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.6, 0.9], [0.7, 0.1, 1.0]]),
    torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_bad_matrix_makes_its_image_nan_and_no_other(backend: Backend, dtype: torch.dtype) -> None:
    image = random(3, 2, 40, 45, dtype=dtype)
    good = random_matrices(1)[0]
    for bad in BAD_MATRICES:
        matrices = torch.stack((good.to(bad.dtype), bad, good.to(bad.dtype)))
        result = backend.call("warp_perspective", image, matrices, (70, 35))
        assert result[1].isnan().all()
        expected = backend.call("warp_perspective", image[::2], matrices[::2], (70, 35))
        assert torch.equal(result[::2], expected)
        assert not expected.isnan().any()
        grad = random(3, 2, 70, 35, dtype=dtype)
        grad_image, grad_matrix = backend.call(
            "_warp_perspective_backward", grad, image, matrices, (70, 35), [True, True]
        )
        assert grad_image[1].isnan().all()
        assert grad_matrix[1].isnan().all()
        assert not grad_image[::2].isnan().any()
        assert not grad_matrix[::2].isnan().any()
        with pytest.raises(RuntimeError, match="must be"):
            opserve_ops.warp_perspective(random(40, 45), bad, (70, 35))


CSR_FAULTS = [
    ([1, 1, 1, 2], [2, 0], "rowptr must start at 0, got 1"),
    ([0, 2, 1, 2], [2, 0], "rowptr must not decrease, got rowptr[2] = 1 after 2"),
    ([0, 9, 9, 2], [2, 0], "rowptr must not decrease, got rowptr[3] = 2 after 9"),
    ([0, 1, 1, 3], [2, 0], "rowptr must end at nnz = 2, got 3"),
    ([0, 1, 1, 2], [2, 3], "col must be in [0, n = 3), got col[1] = 3"),
    ([0, 1, 1, 2], [-1, 7], "col must be in [0, n = 3), got col[0] = -1"),
    # The first of several faults.
    ([1, 2, 1, 9], [5, 5], "rowptr must start at 0, got 1"),
    ([0, 2, 1, 9], [5, 5], "rowptr must not decrease, got rowptr[2] = 1 after 2"),
    ([0, 1, 1, 9], [5, 5], "rowptr must end at nnz = 2, got 9"),
]


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_check_csr_says_the_same_everywhere(backend: Backend, index: torch.dtype) -> None:
    for rowptr, col, message in CSR_FAULTS:
        args = (torch.tensor(rowptr, dtype=index), torch.tensor(col, dtype=index), 3)
        for check in (opserve_ops.check_csr, lambda *args: backend.call("check_csr", *args)):
            with pytest.raises(RuntimeError) as error:
                check(*args)
            assert str(error.value).startswith(f"opserve::check_csr: {message}")
        with pytest.raises(RuntimeError) as error:
            opserve_ops.graph_conv_csr(*args[:2], None, torch.zeros(3, 1), torch.zeros(1, 1))
        assert str(error.value).startswith(f"opserve::graph_conv_csr: {message}")
    for n in (0, 1, 700):
        rowptr, col = csr(n, 3, index)
        assert backend.call("check_csr", rowptr, col, n) is None
        opserve_ops.check_csr(rowptr, col, n)
    large, col = csr(5000, 3, index)
    late = col.clone()
    late[-1] = late[-7] = 5000
    for check in (opserve_ops.check_csr, lambda *args: backend.call("check_csr", *args)):
        with pytest.raises(RuntimeError, match=rf"got col\[{len(col) - 7}\] = 5000"):
            check(large, late, 5000)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((torch.zeros(2, 2), torch.zeros(1), 1), "rowptr must have 1 dimension, got 2"),
        ((torch.zeros(2), torch.zeros(1), 1), "rowptr must be int32 or int64, got float32"),
        ((torch.zeros(2).int(), torch.zeros(1).long(), 1), "col must have the dtype of rowptr, int32, got int64"),
        ((torch.zeros(2).int(), torch.zeros(1).int(), 2), "rowptr must have n+1 = 3 elements, got 2"),
        ((torch.zeros(2).int(), torch.zeros(1).int(), -1), "n must be at least 0 and below 2^63 - 1, got -1"),
    ],
)
def test_check_csr_rejects(backend: Backend, args: tuple, message: str) -> None:
    for check in (opserve_ops.check_csr, lambda *args: backend.call("check_csr", *args)):
        with pytest.raises(RuntimeError) as error:
            check(*args)
        assert str(error.value).startswith(f"opserve::check_csr: {message}")


@pytest.mark.parametrize(("op", "args", "message"), test_rejected.SHAPES, ids=test_rejected.case_id)
def test_rejects_what_the_cpu_rejects(backend: Backend, op: str, args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError) as error:
        backend.call(op, *args)
    assert str(error.value).startswith(f"opserve::{op}: {message}")


@pytest.mark.parametrize(("op", "args", "name"), test_rejected.OVERFLOWING, ids=test_rejected.case_id)
def test_rejects_sizes_that_overflow(backend: Backend, op: str, args: tuple, name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"{name} must fit in 2\^63 bytes, got sizes whose product does not"):
        backend.call(op, *args)


def test_backward_rejects_a_gradient_of_another_kind(backend: Backend) -> None:
    a, x, w, grad = random(3, 3), random(3, 2), random(2, 4), random(3, 4)
    graph, needs = csr(3, 1, torch.int64), [True] * 4
    image, matrix, warped = random(1, 5, 5), HOMOGRAPHY, random(1, 8, 8)
    for op, args, message in (
        ("_graph_conv_backward", (grad[0], a, x, w, needs), "grad must have 2 dimensions, got 1"),
        ("_graph_conv_backward", (grad[:2], a, x, w, needs), "grad must have n = 3 rows, got 2"),
        ("_graph_conv_backward", (grad[:, 1:], a, x, w, needs), "grad must have k = 4 columns, got 3"),
        ("_graph_conv_backward", (grad.float(), a, x, w, needs), "grad must have the dtype of x, float64, got float32"),
        ("_graph_conv_csr_backward", (grad[:2], *graph, None, x, w, needs), "grad must have n = 3 rows, got 2"),
        (
            "_warp_perspective_backward",
            (warped[:, :7], image, matrix, (8, 8), [True, True]),
            "grad must have size 8 in dimension 1, as the result has, got 7",
        ),
        (
            "_warp_perspective_backward",
            (warped[0], image, matrix, (8, 8), [True, True]),
            "grad must have 3 dimensions, got 2",
        ),
    ):
        with pytest.raises(RuntimeError) as error:
            backend.call(op, *args)
        assert str(error.value).startswith(f"opserve::{op}: {message}")
    with pytest.raises(RuntimeError, match="needs must have one bool for each gradient"):
        backend.call("_graph_conv_backward", grad, a, x, w, [True, False])


# --- special values


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_special_values(backend: Backend, dtype: torch.dtype) -> None:
    special = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0], dtype=dtype)
    x, y = (t.reshape(-1) for t in torch.meshgrid(special, special, indexing="ij"))
    for alpha in (2.0, 0.0, NAN, INF):
        torch.testing.assert_close(
            backend.call("scaled_add", x, y, alpha), alpha * x + y, equal_nan=True, rtol=0, atol=0
        )
    rowptr, col = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0])
    x, weight = torch.ones(3, 2, dtype=dtype), torch.ones(2, 8, dtype=dtype)
    x[1, 0] = NAN
    result = backend.call("graph_conv_csr", rowptr, col, None, x, weight)
    assert result[0].isnan().all()
    assert (result[1] == 2).all(), "an entry that does not exist must contribute nothing"
    assert (result[2] == 0).all()
    image = torch.ones(6, 6, dtype=dtype)
    image[2, 3] = NAN
    half = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    touched = torch.zeros(6, 6, dtype=torch.bool)
    touched[2:4, 3:5] = True
    assert torch.equal(backend.call("warp_perspective", image, half, (6, 6)).isnan(), touched)


# --- what only a GPU shows


def on_gpu(sample: Sample) -> tuple:
    return map_tensors(sample.args, lambda t: t.cuda())


def large_samples() -> dict[str, tuple]:
    rowptr, col = csr(20_000, 16, torch.int32)
    x, weight = random(20_000, 64, dtype=torch.float32), random(64, 32, dtype=torch.float32)
    return {
        "scaled_add": (random(1_000_003, dtype=torch.float32), random(1_000_003, dtype=torch.float32, seed=1), 0.5),
        "graph_conv": (random(500, 500, dtype=torch.float32), x[:500], weight),
        "graph_conv_csr": (rowptr, col, None, x, weight),
        "gcn_norm": (rowptr, col, random(len(col), dtype=torch.float32).abs()),
        "warp_perspective": (random(3, 720, 1280, dtype=torch.float32), HOMOGRAPHY, (720, 1280)),
    }


@needs_gpu
@pytest.mark.parametrize("op", OPS)
def test_runs_on_the_current_stream(op: str) -> None:
    """The result is read on the same stream without waiting: on another stream the operator would come too early."""
    args = map_tensors(large_samples()[op], lambda t: t.cuda())
    expected = getattr(opserve_ops, op)(*args)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        # Keeps the stream busy until after the call below has returned.
        late = map_tensors(args, torch.zeros_like)
        torch.cuda._sleep(50_000_000)
        for to, source in zip(late, args, strict=True):
            if isinstance(to, Tensor):
                to.copy_(source)
        result = getattr(opserve_ops, op)(*late)
        assert not stream.query(), "the call waited for the device"
        copies = tuple(each.clone() for each in results(result))
    stream.synchronize()
    torch.testing.assert_close(copies, results(expected))


@needs_gpu
@pytest.mark.parametrize("op", OPS)
def test_can_be_captured_in_a_graph(op: str) -> None:
    args = map_tensors(large_samples()[op], lambda t: t.cuda())
    expected = getattr(opserve_ops, op)(*args)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = getattr(opserve_ops, op)(*args)
    for each in results(result):
        each.zero_()
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(results(result), results(expected))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("op", OPS)
def test_runs_on_the_device_of_its_arguments(op: str) -> None:
    torch.cuda.set_device(0)
    for sample in SAMPLES[op](torch.float32):
        args = map_tensors(sample.args, lambda t: t.to("cuda:1"))
        found = results(getattr(opserve_ops, op)(*args))
        assert {result.device for result in found} == {torch.device("cuda:1")}
        assert torch.cuda.current_device() == 0
        assert_near(
            tuple(result.cpu() for result in found),
            getattr(reference, op)(*exact(sample.args)),
            sample.roundings,
            sample.name,
        )


@needs_gpu
def test_rejects_mixed_devices() -> None:
    with pytest.raises(RuntimeError, match=r"y must be on the device of x, cuda \(index 0\), got cpu"):
        opserve_ops.scaled_add(torch.zeros(3, device="cuda"), torch.zeros(3))
    with pytest.raises(RuntimeError, match=r"weight must be on the device of x, cuda \(index 0\), got cpu"):
        opserve_ops.graph_conv(torch.zeros(3, 3, device="cuda"), torch.zeros(3, 2, device="cuda"), torch.zeros(2, 2))


@needs_gpu
def test_autocast_does_not_change_the_dtype() -> None:
    a, x, weight = (random(*shape, dtype=torch.float32).cuda() for shape in ((70, 70), (70, 40), (40, 30)))
    expected = opserve_ops.graph_conv(a, x, weight)
    with torch.autocast("cuda", dtype=torch.float16):
        result = opserve_ops.graph_conv(a, x, weight)
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)


def needs_memory(gigabytes: float) -> pytest.MarkDecorator:
    available = torch.cuda.mem_get_info()[0] / 1e9 if torch.cuda.is_available() else 0.0
    return pytest.mark.skipif(available < gigabytes, reason=f"needs {gigabytes} GB of GPU memory")


@needs_memory(16)
def test_scaled_add_beyond_32_bit_indices() -> None:
    count = 2**31 + 1027
    x = torch.zeros(count, dtype=torch.float16, device="cuda")
    x[-5:] = torch.arange(5, device="cuda")
    x[2**31 - 1] = 7
    z = opserve_ops.scaled_add(x, x, 2.0)
    assert z[-5:].tolist() == [0, 3, 6, 9, 12]
    assert z[2**31 - 1] == 21
    assert z.float().sum() == 51


@needs_memory(24)
def test_graph_conv_csr_beyond_32_bit_indices() -> None:
    n, k = 2**26 + 5, 33
    rowptr = torch.full((n + 1,), 1, device="cuda")
    rowptr[0] = 0
    rowptr[n] = 2
    col = torch.tensor([n - 1, n - 2], device="cuda")
    x = torch.zeros(n, k, dtype=torch.float16, device="cuda")
    x[n - 2], x[n - 1] = 2, 3
    out = opserve_ops.graph_conv_csr(rowptr, col, None, x, torch.eye(k, dtype=torch.float16, device="cuda"))
    assert (out[0] == 3).all()
    assert (out[n - 1] == 2).all()
    assert not out[1 : n - 1].any()


@needs_memory(16)
def test_warp_perspective_beyond_32_bit_indices() -> None:
    side = 46_400
    image = torch.zeros(side, side, dtype=torch.float16, device="cuda")
    image[-1, -1], image[-1, 0] = 3, 5
    out = opserve_ops.warp_perspective(image, torch.eye(3, device="cuda"), (side, side))
    assert torch.equal(out, image)
