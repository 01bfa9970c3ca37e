"""The operator and nothing else."""

import torch
from torch import nn


class ScaledAdd(nn.Module):
    """z = 2 x + y."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x, y, z: float32 of equal shapes."""
        return torch.ops.opserve.scaled_add(x, y, 2.0)
