"""The operators in plain PyTorch, for any floating-point dtype: the reference for tests of the kernels."""

from collections.abc import Sequence

import torch
from torch import Tensor


def scaled_add(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """Computes alpha * x + y."""
    return alpha * x + y


def graph_conv(a: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes a·x·weight + bias over a dense matrix."""
    out = a @ x @ weight
    return out if bias is None else out + bias


def graph_conv_csr(
    rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Computes A·x·weight + bias for A in CSR form: gathers along the entries and sums by row."""
    n = x.size(0)
    row = torch.repeat_interleave(torch.arange(n, device=x.device), rowptr.diff().long())
    messages = x[col.long()]
    if value is not None:
        messages = messages * value[:, None]
    aggregated = x.new_zeros(x.shape).index_add(0, row, messages)
    out = aggregated @ weight
    return out if bias is None else out + bias


def warp_perspective(image: Tensor, matrix: Tensor, size: Sequence[int] = (8, 8)) -> Tensor:
    """Resamples an image bilinearly through a homography from source to destination pixels; zero outside."""
    height, width = size
    h, w = image.shape[-2:]
    batch = image if image.dim() == 4 else image.reshape(1, image.size(0) if image.dim() == 3 else 1, h, w)
    inverse = torch.linalg.inv(matrix.double())
    if inverse.dim() == 2:
        inverse = inverse.expand(batch.size(0), 3, 3)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=image.device),
        torch.arange(width, dtype=torch.float64, device=image.device),
        indexing="ij",
    )
    target = torch.stack((x, y, torch.ones_like(x))).reshape(3, -1)
    source = inverse @ target
    position = source[:, :2] / source[:, 2:]
    # Everything more than a pixel outside, or at infinity, is the same zero.
    limit = position.new_tensor([w + 1.0, h + 1.0])[:, None]
    position = torch.minimum(torch.nan_to_num(position, nan=-2.0).clamp(min=-2.0), limit)
    corner = position.floor()
    right, below = (position - corner).to(image.dtype).unbind(1)
    column, row = corner.long().unbind(1)

    def neighbour(row: Tensor, column: Tensor) -> Tensor:
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        index = torch.where(inside, row * w + column, 0)
        if h * w == 0:
            return batch.new_zeros(batch.size(0), batch.size(1), height * width)
        flat = batch.reshape(batch.size(0), batch.size(1), h * w)
        picked = flat.gather(2, index[:, None, :].expand(-1, batch.size(1), -1))
        return torch.where(inside[:, None, :], picked, 0)

    right, below = right[:, None, :], below[:, None, :]
    above = (1 - right) * neighbour(row, column) + right * neighbour(row, column + 1)
    under = (1 - right) * neighbour(row + 1, column) + right * neighbour(row + 1, column + 1)
    out = (1 - below) * above + below * under
    return out.reshape(*image.shape[:-2], height, width)
