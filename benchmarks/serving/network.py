"""The graph model of the benchmark: two graph convolutions on a graph of the size of the Cora citation network."""

from pathlib import Path

import numpy
import torch
from torch import nn

import opserve_ops  # noqa: F401  registers the operator
from archive.building.export import save_torchscript

# Cora: 2,708 papers in 7 fields, 10,556 directed links, and a self-loop each; features projected to 64.
NODES, EDGES, FEATURES, HIDDEN, CLASSES = 2708, 10556, 64, 16, 7


class Network(nn.Module):
    """Label and probabilities of every node; opserve's operator."""

    def __init__(self, weights: dict[str, numpy.ndarray]) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.from_numpy(weights["first"]))
        self.first_bias = nn.Parameter(torch.from_numpy(weights["first_bias"]))
        self.second = nn.Parameter(torch.from_numpy(weights["second"]))
        self.second_bias = nn.Parameter(torch.from_numpy(weights["second_bias"]))

    def forward(
        self, rowptr: torch.Tensor, col: torch.Tensor, value: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """int32 [n + 1], int32 [nnz], float32 [nnz], float32 [n, 64] -> int64 [n], float32 [n, 7]."""
        convolve = torch.ops.opserve.graph_conv_csr
        hidden = convolve(rowptr, col, value, x, self.first, self.first_bias).relu()
        scores = convolve(rowptr, col, value, hidden, self.second, self.second_bias).softmax(dim=1)
        return scores.argmax(dim=1), scores


def random_weights(generator: numpy.random.Generator) -> dict[str, numpy.ndarray]:
    """float32 matrices of Glorot's scale, and small biases."""
    shapes = {
        "first": (FEATURES, HIDDEN),
        "second": (HIDDEN, CLASSES),
        "first_bias": (HIDDEN,),
        "second_bias": (CLASSES,),
    }
    return {
        name: generator.normal(0, (2 / sum(shape)) ** 0.5, shape).astype(numpy.float32)
        for name, shape in shapes.items()
    }


def random_graph(generator: numpy.random.Generator) -> dict[str, numpy.ndarray]:
    """One request's inputs: a graph with self-loops and symmetrically normalised weights, and its features."""
    rows = numpy.concatenate([generator.integers(0, NODES, EDGES), numpy.arange(NODES)])
    columns = numpy.concatenate([generator.integers(0, NODES, EDGES), numpy.arange(NODES)])
    order = numpy.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    degree = numpy.bincount(rows, minlength=NODES)
    value = 1 / numpy.sqrt(degree[rows] * degree[columns])
    return {
        "rowptr": numpy.concatenate([[0], numpy.cumsum(degree)]).astype(numpy.int32),
        "col": columns.astype(numpy.int32),
        "value": value.astype(numpy.float32),
        "x": generator.random((NODES, FEATURES)).astype(numpy.float32),
    }


def write(folder: Path, seed: int = 0) -> tuple[dict[str, numpy.ndarray], dict[str, numpy.ndarray]]:
    """Write `graph.pt` and the same weights for others, `graph_weights.npz`; a request's inputs and its outputs."""
    generator = numpy.random.default_rng(seed)
    weights, inputs = random_weights(generator), random_graph(generator)
    network = Network(weights).eval()
    save_torchscript(network, folder / "graph.pt")
    numpy.savez(folder / "graph_weights.npz", **weights)
    with torch.inference_mode():
        label, probabilities = network(*(torch.from_numpy(inputs[name]) for name in ("rowptr", "col", "value", "x")))
    return inputs, {"label": label.numpy(), "probabilities": probabilities.numpy()}
