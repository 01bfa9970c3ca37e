"""The karate club: its communities, which labels the model is trained on, and how it does."""

import json

import networkx
import numpy
import torch

import opserve_ops  # noqa: F401
from archive.karate.graph import hub_per_class, load_karate_graph, random_node_per_class
from archive.karate.model import Communities
from archive.karate.train import accuracy, model_inputs, train
from archive.repository import BUILD


def test_the_communities_are_the_best_division():
    label = load_karate_graph().label
    groups = [set(numpy.flatnonzero(label == number)) for number in range(4)]
    assert round(networkx.community.modularity(networkx.karate_club_graph(), groups, weight=None), 4) == 0.4198


def test_one_node_of_each_community_is_trained_on():
    graph = load_karate_graph()
    for nodes in (hub_per_class(graph), *(random_node_per_class(graph, seed) for seed in range(5))):
        assert graph.label[nodes].tolist() == [0, 1, 2, 3]
    assert len({tuple(random_node_per_class(graph, seed)) for seed in range(5)}) > 1


def test_the_model_normalises_the_graph_as_kipf_and_welling_do():
    looped = networkx.to_numpy_array(networkx.karate_club_graph(), weight=None) + numpy.eye(34)
    scale = numpy.diag(looped.sum(axis=1) ** -0.5)
    normalised = torch.from_numpy(scale @ looped @ scale).float()
    model = Communities(34, 4).requires_grad_(False)
    hidden = (normalised @ model.first + model.first_bias).relu()
    expected = normalised @ hidden @ model.second + model.second_bias
    torch.testing.assert_close(model.logits(*model_inputs(load_karate_graph())), expected)


def test_it_finds_the_communities_of_the_other_nodes():
    recorded = json.loads((BUILD / "models" / "karate" / "metrics.json").read_text())
    assert (recorded["labels_shown"], recorded["nodes_without_label"]) == (4, 30)
    assert recorded["accuracy"] >= 0.9 and recorded["accuracy_of_any_labels"] >= 0.75
    graph = load_karate_graph()
    train_nodes = random_node_per_class(graph, 0)
    assert accuracy(train(graph, train_nodes), graph, train_nodes) >= 0.6
