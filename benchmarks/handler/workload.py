"""Two models at the ends of what is served: three numbers, and a citation graph; each as an unpacked archive."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path

import numpy
import torch
import yaml
from torch import nn

from benchmarks.payloads import DATATYPES, JSON_TYPE, Payload, oip_binary
from handlers.config import CONFIG_FILE
from handlers.model import ServableModel

LIBRARY = Path(__file__).parents[2] / "build" / "lib" / "libopserve_torch.so"

# The size of Cora, a graph of citations, with its features brought down to 64.
NODES, FEATURES, HIDDEN, CLASSES, EDGES = 2708, 64, 64, 7, 13264

# The network's `opserve:` section.
GRAPH = {
    "batching": "graph",
    "inputs": [
        {"name": "rowptr", "dtype": "int64", "shape": [-1]},
        {"name": "col", "dtype": "int64", "shape": [-1]},
        {"name": "x", "dtype": "float32", "shape": [-1, FEATURES]},
    ],
    "outputs": [{"name": "scores", "dtype": "float32", "shape": [-1, CLASSES]}],
}


class ScaledAdd(nn.Module):
    """z = 2x + y."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.ops.opserve.scaled_add(x, y, 2.0)


class GraphNetwork(nn.Module):
    """Two graph convolutions; the scores of every node."""

    def __init__(self) -> None:
        super().__init__()
        self.weight1 = nn.Parameter(torch.randn(FEATURES, HIDDEN) / FEATURES**0.5)
        self.weight2 = nn.Parameter(torch.randn(HIDDEN, CLASSES) / HIDDEN**0.5)

    def forward(self, rowptr: torch.Tensor, col: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(torch.ops.opserve.graph_conv_csr(rowptr, col, None, x, self.weight1, None))
        return torch.ops.opserve.graph_conv_csr(rowptr, col, None, hidden, self.weight2, None)


def load(model: nn.Module, **section: object) -> ServableModel:
    """Scripts a model and loads it as a worker does, under this `opserve:` section."""
    torch.ops.load_library(str(LIBRARY))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / LIBRARY.name).symlink_to(LIBRARY)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(model).save(str(folder / "model.pt"))
        section |= {"artifact": "model.pt", "op_libraries": [LIBRARY.name]}
        (folder / CONFIG_FILE).write_text(yaml.safe_dump({"opserve": section}))
        return ServableModel(folder, name="bench", version="1.0")


def load_scaled_add() -> ServableModel:
    """`scaled_add` as it ships."""
    vectors = [{"name": name, "dtype": "float32", "shape": [-1]} for name in ("x", "y", "z")]
    return load(ScaledAdd(), batching="stack", inputs=vectors[:2], outputs=vectors[2:])


def load_graph_network() -> ServableModel:
    """The two-layer network on graphs of any size."""
    return load(GraphNetwork(), **GRAPH)


def graph(index: str = "int64", features: str = "float32") -> dict[str, numpy.ndarray]:
    """A random graph of Cora's size, its indices and features in these dtypes."""
    generator = numpy.random.default_rng(0)
    ends = numpy.sort(generator.integers(0, EDGES + 1, NODES - 1))
    return {
        "rowptr": numpy.concatenate([[0], ends, [EDGES]]).astype(index),
        "col": generator.integers(0, NODES, EDGES).astype(index),
        "x": generator.random((NODES, FEATURES), dtype=numpy.float32).astype(features),
    }


def as_json(arrays: dict[str, numpy.ndarray]) -> Payload:
    """A plain JSON body."""
    document = {name: array.tolist() for name, array in arrays.items()}
    return Payload(json.dumps(document).encode(), {"Content-Type": JSON_TYPE})


def as_oip_json(arrays: dict[str, numpy.ndarray]) -> Payload:
    """A request of the Open Inference Protocol in JSON."""
    inputs = [
        {"name": name, "shape": array.shape, "datatype": DATATYPES[array.dtype.name], "data": array.ravel().tolist()}
        for name, array in arrays.items()
    ]
    document = {"inputs": inputs, "parameters": {"binary_data_output": False}}
    return Payload(json.dumps(document).encode(), {"Content-Type": JSON_TYPE})


def as_oip_binary(arrays: dict[str, numpy.ndarray]) -> Payload:
    """The same with binary data both ways, which lie on their boundary."""
    return oip_binary(arrays, boundary=64)
