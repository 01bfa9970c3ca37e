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


def gcn_norm(rowptr: Tensor, col: Tensor, value: Tensor, fill_value: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """D^-1/2·(A + I)·D^-1/2, A in CSR form: indices and weights, each row beginning with its self-loop."""
    nodes = torch.arange(rowptr.size(0) - 1, dtype=rowptr.dtype, device=rowptr.device)
    row = torch.repeat_interleave(nodes, rowptr.diff())
    has_loop = torch.zeros_like(nodes, dtype=torch.bool).index_put((row[row == col],), torch.tensor(True))
    loop = torch.where(has_loop, 0.0, fill_value).to(value.dtype)
    degree = loop.index_add(0, row, value)
    # Without this the gradient of a degree of 0 would be NaN.
    positive = torch.where(degree == 0, 1.0, degree)
    scale = torch.where(degree == 0, 0.0, positive.rsqrt())
    entries = torch.arange(col.size(0), dtype=rowptr.dtype, device=rowptr.device)
    loop_at, entry_at = rowptr[:-1] + nodes, entries + row + 1
    size = col.size(0) + nodes.size(0)
    out_col = col.new_empty(size).index_put((loop_at,), nodes).index_put((entry_at,), col)
    out_value = value.new_zeros(size).index_put((loop_at,), scale * loop * scale)
    out_value = out_value.index_put((entry_at,), scale[row] * value * scale[col])
    return torch.cat((loop_at, rowptr.new_tensor([size]))), out_col, out_value


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
