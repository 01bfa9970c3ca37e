"""The karate club: its communities, what the model is shown of them, and how it does."""

import json

import networkx
import numpy

import opserve_ops  # noqa: F401
from archive.karate.club import any_label_each, load_club, one_label_each
from archive.karate.hooks import preprocess
from archive.karate.train import accuracy, train
from archive.repository import BUILD


def test_the_communities_are_the_best_division():
    club = load_club()
    graph = networkx.karate_club_graph()
    groups = [set(numpy.flatnonzero(club.label == number)) for number in range(4)]
    assert round(networkx.community.modularity(graph, groups, weight=None), 4) == 0.4198


def test_one_node_of_each_is_shown():
    club = load_club()
    for shown in (one_label_each(club), *(any_label_each(club, seed) for seed in range(5))):
        assert club.label[shown].tolist() == [0, 1, 2, 3]
    assert len({tuple(any_label_each(club, seed)) for seed in range(5)}) > 1


def test_the_graph_is_normalised_as_kipf_and_welling_do():
    club = load_club()
    got = preprocess({"rowptr": club.rowptr, "col": club.col, "value": numpy.ones(len(club.col), numpy.float32)})
    dense = numpy.zeros((34, 34))
    for row in range(34):
        its = slice(got["rowptr"][row], got["rowptr"][row + 1])
        dense[row, got["col"][its]] += got["value"][its]
    looped = networkx.to_numpy_array(networkx.karate_club_graph(), weight=None) + numpy.eye(34)
    scale = numpy.diag(looped.sum(axis=1) ** -0.5)
    numpy.testing.assert_allclose(dense, scale @ looped @ scale, atol=1e-7)


def test_it_finds_the_communities_of_the_others():
    recorded = json.loads((BUILD / "models" / "karate" / "metrics.json").read_text())
    assert (recorded["labels_shown"], recorded["nodes_without_label"]) == (4, 30)
    assert recorded["accuracy"] >= 0.9 and recorded["accuracy_of_any_labels"] >= 0.75
    club = load_club()
    shown = any_label_each(club, 0)
    assert accuracy(train(club, shown), club, shown) >= 0.6
