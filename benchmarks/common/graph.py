"""A graph network and a request of the size of the Cora citation network: an operator's work, and large arrays."""

from pathlib import Path

import numpy
import torch
from torch import nn

import opserve_ops  # noqa: F401  registers the operator
from archive.building.export import save_torchscript

# Cora: 2,708 papers in 7 fields, 10,556 directed links and a self-loop each; features projected to 64.
NODES, EDGES, FEATURES, HIDDEN, CLASSES = 2708, 10556, 64, 16, 7


class GraphNetwork(nn.Module):
    """Two graph convolutions with opserve's operator: the label and the probabilities of every node.

    Args:
        weights: The arrays of `random_weights`.
    """

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
        probabilities = convolve(rowptr, col, value, hidden, self.second, self.second_bias).softmax(dim=1)
        return probabilities.argmax(dim=1), probabilities


def random_weights(generator: numpy.random.Generator) -> dict[str, numpy.ndarray]:
    """Draws float32 matrices of Glorot's scale, and small biases."""
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
    """Draws one request's inputs: a graph with self-loops and symmetrically normalised weights, and its features."""
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


def write_network(folder: Path, seed: int = 0) -> tuple[dict[str, numpy.ndarray], dict[str, numpy.ndarray]]:
    """Writes `graph.pt`, and the same weights as `graph_weights.npz`; returns a request's inputs and its outputs."""
    generator = numpy.random.default_rng(seed)
    weights, inputs = random_weights(generator), random_graph(generator)
    save_torchscript(GraphNetwork(weights).eval(), folder / "graph.pt")
    numpy.savez(folder / "graph_weights.npz", **weights)  # type: ignore[arg-type]  # the names are free
    return inputs, run_network(folder, inputs)


def run_network(folder: Path, inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """Computes the outputs of the network that `write_network` wrote into a folder."""
    with numpy.load(folder / "graph_weights.npz") as weights:
        network = GraphNetwork(dict(weights)).eval()
    with torch.inference_mode():
        label, probabilities = network(*(torch.from_numpy(inputs[name]) for name in ("rowptr", "col", "value", "x")))
    return {"label": label.numpy(), "probabilities": probabilities.numpy()}
