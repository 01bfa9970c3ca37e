"""Trains the model of the karate club's communities, given the label of one node of each."""

import numpy
import torch

from archive.karate.graph import LabeledGraph
from archive.karate.model import Communities

SEED = 1
EPOCHS = 300


def model_inputs(graph: LabeledGraph) -> tuple[torch.Tensor, ...]:
    """The inputs of the model for a graph: rowptr, col, value, x."""
    weights = numpy.ones(len(graph.col), numpy.float32)
    return tuple(torch.from_numpy(array) for array in (graph.rowptr, graph.col, weights, graph.features))


def train(graph: LabeledGraph, train_nodes: numpy.ndarray) -> Communities:
    """A model in eval mode, trained on the whole graph and the labels of some nodes: int64 [labels]."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = Communities(graph.features.shape[1], graph.classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    label = torch.from_numpy(graph.label)
    inputs = model_inputs(graph)
    for _ in range(EPOCHS):
        loss = torch.nn.functional.cross_entropy(model.logits(*inputs)[train_nodes], label[train_nodes])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def accuracy(model: torch.nn.Module, graph: LabeledGraph, train_nodes: numpy.ndarray) -> float:
    """The share of the other nodes that the model assigns to their class."""
    others = numpy.setdiff1d(numpy.arange(len(graph.label)), train_nodes)
    label, _ = model(*model_inputs(graph))
    return float((label.numpy()[others] == graph.label[others]).mean())
