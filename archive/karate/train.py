"""Trains the karate club's communities from one label each."""

import numpy
import torch

from archive.karate.club import Club
from archive.karate.hooks import preprocess
from archive.karate.model import Communities

SEED = 1
EPOCHS = 300


def model_inputs(club: Club) -> tuple[torch.Tensor, ...]:
    """What the model takes, from the plain graph: rowptr, col, value, x."""
    weights = numpy.ones(len(club.col), numpy.float32)
    plain = {"rowptr": club.rowptr, "col": club.col, "value": weights, "x": club.features}
    ready = preprocess(plain)
    return tuple(torch.from_numpy(ready[name]) for name in ("rowptr", "col", "value", "x"))


def train(club: Club, shown: numpy.ndarray) -> Communities:
    """A model in eval mode that was shown the whole graph, and the labels of some nodes: int64 [shown]."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = Communities(club.features.shape[1], int(club.label.max()) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    label = torch.from_numpy(club.label)
    inputs = model_inputs(club)
    for _ in range(EPOCHS):
        loss = torch.nn.functional.cross_entropy(model.logits(*inputs)[shown], label[shown])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def accuracy(model: torch.nn.Module, club: Club, shown: numpy.ndarray) -> float:
    """Share of the nodes whose label was not shown that are put into their community."""
    hidden = numpy.setdiff1d(numpy.arange(len(club.label)), shown)
    label, _ = model(*model_inputs(club))
    return float((label.numpy()[hidden] == club.label[hidden]).mean())
