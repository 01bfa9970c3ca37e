"""Results against the reference, whatever the layout of the inputs, and IEEE's special values."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import opserve_ops
from tests.extensions.samples import (
    DTYPES,
    HOMOGRAPHY,
    INDEX_DTYPES,
    OPS,
    SAMPLES,
    assert_matches_reference,
    csr,
    map_tensors,
    random,
    results,
)

NAN, INF = float("nan"), float("inf")


def contiguous(tensor: Tensor) -> Tensor:
    return tensor.contiguous()


def transposed(tensor: Tensor) -> Tensor:
    """Columns first in memory."""
    order = tuple(reversed(range(tensor.dim())))
    return tensor.permute(order).contiguous().permute(order)


def every_second(tensor: Tensor) -> Tensor:
    """Every second element along the last dimension of a larger tensor."""
    if tensor.dim() == 0:
        return tensor
    wide = tensor.new_full((*tensor.shape[:-1], 2 * tensor.size(-1)), 77)
    wide[..., ::2] = tensor
    return wide[..., ::2]


def offset(tensor: Tensor) -> Tensor:
    """A window into a larger tensor: rows are dense but apart, and the first element is at an odd place."""
    if tensor.dim() == 0:
        return torch.cat((tensor.new_full((3,), 77), tensor.reshape(1)))[3]
    larger = tensor.new_full(tuple(size + 3 for size in tensor.shape), 77)
    window = larger[tuple(slice(1, 1 + size) for size in tensor.shape)]
    window.copy_(tensor)
    return window


@pytest.mark.parametrize("layout", [contiguous, transposed, every_second, offset])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_matches_reference(op: str, dtype: torch.dtype, layout: Callable[[Tensor], Tensor]) -> None:
    for sample in SAMPLES[op](dtype):
        args = map_tensors(sample.args, layout)
        before = map_tensors(args, torch.clone)
        found = getattr(opserve_ops, op)(*args)
        assert all(result.dtype == dtype or not result.is_floating_point() for result in results(found))
        assert all(result.is_contiguous() for result in results(found))
        assert_matches_reference(op, found, sample)
        for arg, copy in zip(args, before, strict=True):
            assert not isinstance(arg, Tensor) or torch.equal(arg, copy), "an input was written to"


def test_expanded_inputs() -> None:
    x = random(1, 5, dtype=torch.float32).expand(40, 5)
    row = random(40, 1, dtype=torch.float32).expand(40, 40)
    weight, bias = random(5, 1, dtype=torch.float32).expand(5, 9), random(1, dtype=torch.float32).expand(9)
    assert torch.equal(opserve_ops.scaled_add(x, x), opserve_ops.scaled_add(x.contiguous(), x.contiguous()))
    dense = (row, x, weight, bias)
    assert torch.equal(opserve_ops.graph_conv(*dense), opserve_ops.graph_conv(*map_tensors(dense, contiguous)))
    rowptr, col = csr(40, 3, torch.int64)
    value = random(1, dtype=torch.float32).expand(len(col))
    sparse = (rowptr, col, value, x, weight, bias)
    assert torch.equal(
        opserve_ops.graph_conv_csr(*sparse), opserve_ops.graph_conv_csr(*map_tensors(sparse, contiguous))
    )
    image = random(1, 1, 20, 30).expand(2, 3, 20, 30)
    matrix = HOMOGRAPHY.expand(2, 3, 3)
    assert torch.equal(
        opserve_ops.warp_perspective(image, matrix, (9, 11)),
        opserve_ops.warp_perspective(image.contiguous(), matrix.contiguous(), (9, 11)),
    )


def test_defaults() -> None:
    x, y = random(5), random(5, seed=1)
    assert torch.equal(torch.ops.opserve.scaled_add(x, y), 2 * x + y)
    assert torch.ops.opserve.warp_perspective(random(20, 20), HOMOGRAPHY).shape == (8, 8)
    assert torch.ops.opserve.warp_perspective(random(20, 20), HOMOGRAPHY, 5).shape == (5, 5)


@pytest.mark.parametrize("op", OPS)
def test_threads_do_not_change_the_result(op: str) -> None:
    large = {
        "scaled_add": lambda: (random(1_000_003), random(1_000_003, seed=1), 0.3),
        "graph_conv": lambda: (random(301, 301), random(301, 40), random(40, 70), random(70)),
        "graph_conv_csr": lambda: (
            *csr(5003, 8, torch.int64),
            None,
            random(5003, 30),
            random(30, 20),
            random(20),
        ),
        "gcn_norm": lambda: (*csr(50_003, 8, torch.int64), random(len(csr(50_003, 8, torch.int64)[1])).abs()),
        "warp_perspective": lambda: (random(3, 301, 403), HOMOGRAPHY, (200, 500)),
    }[op]()
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            args = map_tensors(large, lambda t: t.float() if t.is_floating_point() and op != "warp_perspective" else t)
            found.append(results(getattr(opserve_ops, op)(*args)))
    finally:
        torch.set_num_threads(threads)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


# --- special values


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scaled_add_special_values(dtype: torch.dtype) -> None:
    special = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0], dtype=dtype)
    x, y = (t.reshape(-1) for t in torch.meshgrid(special, special, indexing="ij"))
    for alpha in (2.0, 0.0, NAN, INF):
        torch.testing.assert_close(opserve_ops.scaled_add(x, y, alpha), alpha * x + y, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_graph_conv_special_values(dtype: torch.dtype) -> None:
    a = torch.eye(3, dtype=dtype)
    x = torch.ones(3, 2, dtype=dtype)
    weight = torch.ones(2, 2, dtype=dtype)
    x[1, 0] = NAN
    # A zero of the matrix multiplies what it meets.
    assert opserve_ops.graph_conv(a, x, weight).isnan().all()
    x[1, 0] = INF
    result = opserve_ops.graph_conv(a, x, weight)
    assert result[1].tolist() == [INF, INF]
    assert result[[0, 2]].isnan().all()
    bias = torch.tensor([-INF, 1.0], dtype=dtype)
    assert opserve_ops.graph_conv(a, torch.ones(3, 2, dtype=dtype), weight, bias)[0].tolist() == [-INF, 3.0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 40])
def test_graph_conv_csr_special_values(dtype: torch.dtype, k: int) -> None:
    rowptr, col = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0])
    x = torch.ones(3, 2, dtype=dtype)
    weight = torch.ones(2, k, dtype=dtype)
    x[1, 0] = NAN
    result = opserve_ops.graph_conv_csr(rowptr, col, None, x, weight)
    assert result[0].isnan().all()
    assert (result[1] == 2).all(), "an entry that does not exist must contribute nothing"
    assert (result[2] == 0).all()
    x[1, 0] = INF
    assert (opserve_ops.graph_conv_csr(rowptr, col, torch.tensor([-1.0, 1], dtype=dtype), x, weight)[0] == -INF).all()
    assert opserve_ops.graph_conv_csr(rowptr, col, torch.tensor([0.0, 1], dtype=dtype), x, weight)[0].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_warp_perspective_special_values(dtype: torch.dtype) -> None:
    image = torch.ones(6, 6, dtype=dtype)
    image[2, 3] = NAN
    half = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    result = opserve_ops.warp_perspective(image, half, (6, 6))
    touched = torch.zeros(6, 6, dtype=torch.bool)
    touched[2:4, 3:5] = True
    assert torch.equal(result.isnan(), touched)
    image[2, 3] = INF
    assert torch.equal(opserve_ops.warp_perspective(image, half, (6, 6)).isinf(), touched)


# --- warp_perspective


def random_homography(rng: np.random.Generator, h: int, w: int, out_h: int, out_w: int) -> np.ndarray:
    corners = np.array([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]], np.float32)
    source = (corners + rng.uniform(-0.2, 0.2, (4, 2)) * (w, h)).astype(np.float32)
    target = np.array([[0, 0], [out_w - 1, 0], [out_w - 1, out_h - 1], [0, out_h - 1]], np.float32)
    return cv2.getPerspectiveTransform(source, target)


@pytest.mark.parametrize("channels", [1, 3])
def test_warp_perspective_agrees_with_opencv(channels: int) -> None:
    rng = np.random.default_rng(3)
    for h, w, out_h, out_w in ((16, 16, 8, 8), (64, 48, 100, 90), (240, 320, 128, 128), (270, 480, 480, 640)):
        # OpenCV computes coordinates in float32: its error grows with them and with the slope of the image.
        image = cv2.GaussianBlur(rng.random((h, w, channels), dtype=np.float32), (0, 0), 1.5).reshape(h, w, channels)
        for _ in range(5):
            matrix = random_homography(rng, h, w, out_h, out_w)
            theirs = cv2.warpPerspective(image, matrix, (out_w, out_h), flags=cv2.INTER_LINEAR)
            ours = opserve_ops.warp_perspective(
                torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(matrix), (out_h, out_w)
            )
            np.testing.assert_allclose(
                ours.permute(1, 2, 0).numpy(), theirs.reshape(out_h, out_w, channels), rtol=0, atol=1e-3
            )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_warp_perspective_whole_pixels_are_exact(dtype: torch.dtype) -> None:
    image = random(3, 20, 200, dtype=dtype)
    assert torch.equal(opserve_ops.warp_perspective(image, torch.eye(3), (20, 200)), image)
    shift = torch.tensor([[1.0, 0, 3], [0, 1, -2], [0, 0, 1]])
    shifted = opserve_ops.warp_perspective(image, shift, (20, 200))
    assert torch.equal(shifted[:, :18, 3:], image[:, 2:, :-3])
    assert (shifted[:, :, :3] == 0).all()
    assert (shifted[:, 18:] == 0).all()


def test_warp_perspective_border_neighbours_count_one_by_one() -> None:
    image = torch.full((4, 4), 8.0)
    half = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    result = opserve_ops.warp_perspective(image, half, (5, 5))
    assert result[0].tolist() == [2.0, 4.0, 4.0, 4.0, 2.0]
    assert result[1].tolist() == [4.0, 8.0, 8.0, 8.0, 4.0]


def test_warp_perspective_at_infinity_is_zero() -> None:
    # Destination column 2 is the horizon.
    matrix = torch.linalg.inv(torch.tensor([[1.0, 0, 1], [0, 1, 1], [-0.5, 0, 1]], dtype=torch.float64))
    result = opserve_ops.warp_perspective(torch.ones(50, 50), matrix, (4, 4))
    assert (result[:, 2] == 0).all()
    assert (result[:, 0] == 1).all()


def test_warp_perspective_ignores_the_factor() -> None:
    image = random(30, 30)
    expected = opserve_ops.warp_perspective(image, HOMOGRAPHY, (20, 20))
    for factor in (-1.0, 2.0**-300, 2.0**300):
        assert torch.equal(opserve_ops.warp_perspective(image, factor * HOMOGRAPHY, (20, 20)), expected)


@pytest.mark.parametrize("index", INDEX_DTYPES, ids=str)
def test_block_diagonal_graphs_do_not_touch_each_other(index: torch.dtype) -> None:
    weight, bias = random(6, 4, dtype=torch.float32), random(4, dtype=torch.float32)
    graphs = [(*csr(n, 3, index, seed=n), random(n, 6, dtype=torch.float32)) for n in (5, 1, 40)]
    alone = torch.cat([opserve_ops.graph_conv_csr(rowptr, col, None, x, weight, bias) for rowptr, col, x in graphs])
    rowptrs, cols, nodes, entries = [torch.zeros(1, dtype=index)], [], 0, 0
    for rowptr, col, x in graphs:
        rowptrs.append(rowptr[1:] + entries)
        cols.append(col + nodes)
        nodes, entries = nodes + len(x), entries + len(col)
    together = opserve_ops.graph_conv_csr(
        torch.cat(rowptrs), torch.cat(cols), None, torch.cat([x for _, _, x in graphs]), weight, bias
    )
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
