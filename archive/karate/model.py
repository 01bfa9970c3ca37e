"""Two graph convolutions: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks"."""

import torch
from torch import nn


class Communities(nn.Module):
    """Community and probabilities of every node of a graph in CSR form."""

    def __init__(self, features: int, classes: int, hidden: int = 16) -> None:
        super().__init__()
        self.first = nn.Parameter(nn.init.xavier_uniform_(torch.empty(features, hidden)))
        self.first_bias = nn.Parameter(torch.zeros(hidden))
        self.second = nn.Parameter(nn.init.xavier_uniform_(torch.empty(hidden, classes)))
        self.second_bias = nn.Parameter(torch.zeros(classes))

    def logits(self, rowptr: torch.Tensor, col: torch.Tensor, value: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Unnormalised scores, float32 [n, classes]; arguments as in `forward`."""
        rowptr, col, value = torch.ops.opserve.gcn_norm(rowptr, col, value)
        convolve = torch.ops.opserve.graph_conv_csr
        hidden = convolve(rowptr, col, value, x, self.first, self.first_bias).relu()
        return convolve(rowptr, col, value, hidden, self.second, self.second_bias)

    def forward(
        self, rowptr: torch.Tensor, col: torch.Tensor, value: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reads one graph, or several as one.

        Args:
            rowptr: int64 [n + 1]; with `col` and `value` the adjacency, to which the model adds self-loops.
            col: int64 [nnz].
            value: float32 [nnz], edge weights of 0 or more.
            x: float32 [n, features].

        Returns:
            label int64 [n], probabilities float32 [n, classes].
        """
        probabilities = self.logits(rowptr, col, value, x).softmax(dim=1)
        return probabilities.argmax(dim=1), probabilities
