"""warp_perspective: an image through a homography."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .._operator import Expect, Operator, gradient


def warp_perspective(image: Tensor, matrix: Tensor, size: Sequence[int] = (8, 8)) -> Tensor:
    """Resamples an image through a homography, as OpenCV's warpPerspective does, bilinear with a border of zero.

    Args:
        image: [H, W], [C, H, W] or [N, C, H, W], float32 or float64, on CUDA also float16 or bfloat16.
        matrix: [3, 3], or [N, 3, 3] for a 4-D image; float32 or float64. Maps (x, y, 1) of the source to the
            destination, in pixels, whose centres have integer coordinates.
        size: The height and width of the result.

    Returns:
        The leading dimensions of `image`, then height and width, with its dtype, contiguous. On CUDA the image of a
        matrix that is not finite or is singular is NaN, and the gradient of `image` can differ by roundings from call
        to call.

    Raises:
        RuntimeError: A rank or size does not match, devices are mixed, a dtype is not supported, or, on the CPU, a
            matrix is not finite or is singular.

    Source: extensions/include/opserve/warp_perspective.h
    """
    return torch.ops.opserve.warp_perspective.default(image, matrix, size)


def _fake(expect: Expect, image: Tensor, matrix: Tensor, size: Sequence[int]) -> Tensor:
    expect.that(2 <= image.dim() <= 4, "image must have 2, 3 or 4 dimensions, got {}", image.dim())
    per_image = matrix.dim() == 3 and image.dim() == 4
    message = "matrix must be [3, 3], or [N, 3, 3] for a 4-D image, got {} dimensions"
    expect.that(matrix.dim() == 2 or per_image, message, matrix.dim())
    for side in matrix.shape[-2:]:
        expect.that(side == 3, "matrix must be 3 by 3, got {} by {}", *matrix.shape[-2:])
    if per_image:
        message = "matrix must hold N = {} matrices, got {}"
        expect.that(matrix.size(0) == image.size(0), message, image.size(0), matrix.size(0))
    expect.that(len(size) == 2, "size must be (height, width), 2 numbers, got {}", len(size))
    for i, side in enumerate(size):
        expect.that(0 <= side < 2**31 - 8, "size[{}] must be at least 0 and below 2^31 - 8, got {}", i, side)
    return image.new_empty((*image.shape[:-2], *size))


def _fake_backward(
    expect: Expect, grad: Tensor, image: Tensor, matrix: Tensor, size: Sequence[int], output_mask: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    expect.same_shape("grad", grad, (*image.shape[:-2], *size), "the result")
    return gradient(image, needed=output_mask[0]), gradient(matrix, needed=output_mask[1])


def _not_deterministic(saved: Mapping[str, Tensor], needed: Mapping[str, bool]) -> str:
    return "image" if needed["image"] else ""


Operator(
    "warp_perspective",
    types={"T": ("image",), "M": ("matrix",)},
    fake=_fake,
    fake_backward=_fake_backward,
    onnx="WarpPerspective",
    not_deterministic=_not_deterministic,
)
