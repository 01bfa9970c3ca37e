"""Gradients: against numbers, against PyTorch's own of the reference, and what is refused.

Of the operators whose backward is here; `samples` has the inputs.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import opserve_ops
from opserve_ops import reference
from tests.extensions.samples import DTYPES, random
from tests.extensions.test_forward import contiguous, every_second, offset, transposed

LAYOUTS = [contiguous, transposed, every_second, offset]
# No preimage is a whole pixel, where the slope has two sides.
HOMOGRAPHY = torch.tensor([[0.8, 0.1, 2.3173], [-0.1, 0.9, 3.1421], [0.002, 0.001, 1.0]], dtype=torch.float64)
PER_IMAGE = torch.stack((HOMOGRAPHY, HOMOGRAPHY.inverse(), -2.5 * HOMOGRAPHY))

# Image, matrix, size.
WARPS = [
    ((7, 9), HOMOGRAPHY, (6, 5)),
    ((2, 7, 9), HOMOGRAPHY, (6, 5)),
    ((3, 2, 6, 5), HOMOGRAPHY, (4, 5)),
    ((3, 2, 6, 5), PER_IMAGE, (4, 5)),
    ((1, 1), HOMOGRAPHY, (3, 3)),
    # Most of the result lies outside.
    ((4, 4), HOMOGRAPHY, (9, 9)),
    ((5, 6), -HOMOGRAPHY, (1, 70)),
    ((0, 2, 4, 4), HOMOGRAPHY, (3, 3)),
    ((0, 2, 4, 4), PER_IMAGE[:0], (3, 3)),
    ((0, 4, 4), HOMOGRAPHY, (3, 3)),
    ((0, 4), HOMOGRAPHY, (3, 3)),
    ((4, 0), HOMOGRAPHY, (3, 3)),
    ((4, 4), HOMOGRAPHY, (0, 3)),
]


def leaf(tensor: Tensor, layout: Callable[[Tensor], Tensor] = contiguous) -> Tensor:
    return layout(tensor.clone()).detach().requires_grad_()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 0, 2), (4, 5, 3)])
def test_scaled_add_gradcheck(shape: tuple[int, ...], layout: Callable[[Tensor], Tensor]) -> None:
    x, y = leaf(random(*shape), layout), leaf(random(*shape, seed=1), layout)
    assert torch.autograd.gradcheck(lambda x, y: opserve_ops.scaled_add(x, y, -0.3), (x, y))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "matrix", "size"), WARPS)
def test_warp_perspective_gradcheck(
    shape: tuple[int, ...], matrix: Tensor, size: tuple[int, int], layout: Callable[[Tensor], Tensor]
) -> None:
    image, matrix = leaf(random(*shape), layout), leaf(matrix, layout)
    assert torch.autograd.gradcheck(
        lambda image, matrix: opserve_ops.warp_perspective(image, matrix, size), (image, matrix)
    )


def test_gradcheck_of_expanded_inputs() -> None:
    row = leaf(random(1, 5))
    assert torch.autograd.gradcheck(lambda x: opserve_ops.scaled_add(x.expand(3, 5), x.expand(3, 5)), row)
    image, matrix = leaf(random(1, 1, 6, 5)), leaf(HOMOGRAPHY)
    assert torch.autograd.gradcheck(
        lambda i, m: opserve_ops.warp_perspective(i.expand(2, 3, 6, 5), m.expand(2, 3, 3), (4, 5)), (image, matrix)
    )


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_only_the_gradients_that_are_needed(needs: tuple[bool, bool]) -> None:
    image, matrix = random(7, 9).requires_grad_(needs[0]), HOMOGRAPHY.clone().requires_grad_(needs[1])
    opserve_ops.warp_perspective(image, matrix, (6, 5)).sum().backward()
    assert (image.grad is not None, matrix.grad is not None) == needs
    grads = torch.ops.opserve._warp_perspective_backward(
        torch.ones(6, 5, dtype=image.dtype), image.detach(), matrix.detach(), (6, 5), needs
    )
    assert [tuple(grad.shape) for grad in grads] == [(7, 9) if needs[0] else (0,), (3, 3) if needs[1] else (0,)]
    x, y = random(3).requires_grad_(needs[0]), random(3).requires_grad_(needs[1])
    opserve_ops.scaled_add(x, y).sum().backward()
    assert (x.grad is not None, y.grad is not None) == needs


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("matrix_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_warp_perspective_gradients_of_a_large_image(
    channels: int, matrix_dtype: torch.dtype, dtype: torch.dtype
) -> None:
    """Rows of many runs, a rotation by 30 degrees, half of it outside."""
    rotation = torch.tensor([[0.9, -0.5, 40.3173], [0.5, 0.85, -31.1421], [2e-4, -1e-4, 1.0]], dtype=torch.float64)
    matrix = torch.stack((rotation, HOMOGRAPHY)).to(matrix_dtype)
    image = random(2, channels, 150, 170, dtype=dtype)
    weights = random(2, channels, 140, 200, dtype=dtype, seed=2)
    ours = [leaf(image), leaf(matrix)]
    (opserve_ops.warp_perspective(*ours, (140, 200)) * weights).sum().backward()
    exact = [leaf(image.double()), leaf(matrix.double())]
    (reference.warp_perspective(*exact, (140, 200)) * weights.double()).sum().backward()
    for mine, theirs, dtype_of in zip(ours, exact, (dtype, matrix_dtype), strict=True):
        assert mine.grad.dtype == dtype_of
        largest = theirs.grad.abs().max().item()
        coarse = max(torch.finfo(dtype).eps, torch.finfo(dtype_of).eps)
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=0, atol=2000 * coarse * largest)


def test_at_a_whole_pixel_the_slope_is_that_to_the_right_and_below() -> None:
    image = torch.tensor([[0.0, 1.0, 4.0], [9.0, 16.0, 25.0], [36.0, 49.0, 64.0]], dtype=torch.float64)
    matrix = torch.eye(3, dtype=torch.float64, requires_grad=True)
    opserve_ops.warp_perspective(image, matrix, (3, 3))[1, 1].backward()
    # Moving the image to the right by t moves the preimage by -t.
    assert matrix.grad[0, 2].item() == -(25.0 - 16.0)
    assert matrix.grad[1, 2].item() == -(49.0 - 16.0)


def test_the_gradient_of_a_matrix_does_not_depend_on_its_factor() -> None:
    image = random(20, 20)
    expected = None
    for factor in (1.0, -1.0, 2.0**-300, 2.0**300):
        matrix = leaf(factor * HOMOGRAPHY)
        opserve_ops.warp_perspective(image, matrix, (9, 9)).square().sum().backward()
        scaled = matrix.grad * factor
        expected = scaled if expected is None else expected
        assert torch.equal(scaled, expected)


def test_at_infinity_there_is_no_gradient() -> None:
    """Destination column 2 is the horizon; next to it preimages lie far outside."""
    matrix = leaf(torch.linalg.inv(torch.tensor([[1.0, 0, 1], [0, 1, 1], [-0.5, 0, 1]], dtype=torch.float64)))
    image = leaf(random(50, 50))
    opserve_ops.warp_perspective(image, matrix, (4, 130)).sum().backward()
    assert matrix.grad.isfinite().all()
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_threads_do_not_change_the_gradients(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    shape = (*batch, 3, 301, 203) if batch else (301, 403)
    image, matrix = random(*shape, dtype=dtype), HOMOGRAPHY
    grad = random(*shape[:-2], 300, 500, dtype=dtype)
    x = random(1_000_003, dtype=dtype)
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            warped = torch.ops.opserve._warp_perspective_backward(grad, image, matrix, (300, 500), (True, True))
            results.append((*warped, *torch.ops.opserve._scaled_add_backward(x, 0.3)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert torch.equal(got, want)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_values_in_gradients(dtype: torch.dtype) -> None:
    special = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0], dtype=dtype)
    for alpha in (2.0, 0.0, NAN, -INF):
        grad_x, grad_y = torch.ops.opserve._scaled_add_backward(special, alpha)
        torch.testing.assert_close(grad_x, alpha * special, equal_nan=True, rtol=0, atol=0)
        torch.testing.assert_close(grad_y, special, equal_nan=True, rtol=0, atol=0)
    half = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], dtype=torch.float64)
    ones = torch.ones(6, 6, dtype=dtype)
    for value in (NAN, INF):
        # Pixel (2, 3) of the result lies between four pixels of the source, which get what it has.
        grad = ones.clone()
        grad[2, 3] = value
        grad_image, grad_matrix = torch.ops.opserve._warp_perspective_backward(grad, ones, half, (6, 6), (True, True))
        touched = torch.zeros(6, 6, dtype=torch.bool)
        touched[1:3, 2:4] = True
        assert torch.equal(~grad_image.isfinite(), touched)
        assert grad_matrix.isnan().any()
        # A pixel of the source changes what the matrix does, and no gradient of the source.
        image = ones.clone()
        image[2, 3] = value
        grad_image, grad_matrix = torch.ops.opserve._warp_perspective_backward(ones, image, half, (6, 6), (True, True))
        assert grad_image.isfinite().all()
        assert grad_matrix.isnan().any()


def backward_calls() -> list[tuple[str, tuple]]:
    image, matrix = random(2, 3, 7, 9), PER_IMAGE[:2]
    grad = random(2, 3, 6, 5)
    return [
        ("_scaled_add_backward", (random(4, 5), 0.3)),
        ("_scaled_add_backward", (random(4, 5).T, 0.3)),
        *(
            ("_warp_perspective_backward", (grad, image, matrix, (6, 5), needs))
            for needs in ((True, True), (True, False), (False, True), (False, False))
        ),
        (
            "_warp_perspective_backward",
            (grad[0], image[0].mT.contiguous().mT, HOMOGRAPHY.float(), (6, 5), (True, True)),
        ),
    ]


@pytest.mark.parametrize(("op", "args"), backward_calls(), ids=lambda value: value if isinstance(value, str) else "")
def test_opcheck_of_backward(op: str, args: tuple) -> None:
    overload = getattr(torch.ops.opserve, op).default
    torch.library.opcheck(overload, args, test_utils=("test_schema", "test_faketensor", "test_autograd_registration"))


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("scaled_add", (random(4, 5), random(4, 5, seed=1), 0.3)),
        ("warp_perspective", (random(2, 7, 9), HOMOGRAPHY, (6, 5))),
        ("warp_perspective", (random(3, 2, 7, 9), PER_IMAGE, (6, 5))),
    ],
)
def test_opcheck_with_gradients(op: str, args: tuple) -> None:
    args = tuple(leaf(arg) if isinstance(arg, Tensor) else arg for arg in args)
    torch.library.opcheck(getattr(torch.ops.opserve, op).default, args)


@pytest.mark.parametrize("op", ["scaled_add", "warp_perspective"])
def test_a_second_backward_is_refused(op: str) -> None:
    first, second = leaf(random(8, 8)), leaf(random(8, 8) if op == "scaled_add" else HOMOGRAPHY)
    result = getattr(opserve_ops, op)(first, second)
    (grad,) = torch.autograd.grad(result.square().sum(), first, create_graph=True)
    with pytest.raises(RuntimeError, match=f"opserve::_{op}_backward: gradients of gradients are not supported"):
        grad.sum().backward()


REFUSED = [
    (
        "_warp_perspective_backward",
        (random(6, 5), random(2, 7, 9), HOMOGRAPHY, (6, 5), (True, True)),
        "opserve::_warp_perspective_backward: grad must have 3 dimensions, got 2",
    ),
    (
        "_warp_perspective_backward",
        (random(2, 6, 4), random(2, 7, 9), HOMOGRAPHY, (6, 5), (True, True)),
        "opserve::_warp_perspective_backward: grad must have size 5 in dimension 2, as the result has, got 4",
    ),
    (
        "_warp_perspective_backward",
        (random(6, 5).float(), random(7, 9), HOMOGRAPHY, (6, 5), (True, True)),
        "opserve::_warp_perspective_backward: grad must have the dtype of image, float64, got float32",
    ),
    (
        "_warp_perspective_backward",
        (random(6, 5), random(7, 9), torch.zeros(3, 3), (6, 5), (True, True)),
        "opserve::warp_perspective: matrix must be invertible, got a singular matrix 0",
    ),
    (
        "_warp_perspective_backward",
        (random(6, 5), random(7, 9), HOMOGRAPHY, (6, 5), (True, True, True)),
        "opserve: needs must have one bool for each gradient",
    ),
    (
        "_warp_perspective_backward",
        (random(6, 5).half(), random(7, 9).half(), HOMOGRAPHY, (6, 5), (True, True)),
        "opserve::_warp_perspective_backward: image must be float32 or float64 on the CPU, got float16",
    ),
    (
        "_scaled_add_backward",
        (torch.zeros(3, dtype=torch.int32), 2.0),
        "opserve::_scaled_add_backward: grad must be of a floating-point dtype, got int32",
    ),
    (
        "_scaled_add_backward",
        (torch.zeros(3, dtype=torch.float16), 2.0),
        "opserve::_scaled_add_backward: grad must be float32 or float64 on the CPU, got float16",
    ),
]


@pytest.mark.parametrize(("op", "args", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_refused(op: str, args: tuple, message: str) -> None:
    with pytest.raises(RuntimeError) as error:
        getattr(torch.ops.opserve, op)(*args)
    assert str(error.value).startswith(message)
