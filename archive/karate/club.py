"""Zachary's karate club (1977): who meets whom, and the four communities of the network."""

from dataclasses import dataclass

import networkx
import numpy

# The modularity of the best division there is: U. Brandes et al., "On Modularity Clustering" (2008). Kipf and Welling
# (2017, appendix A) take its four communities as the classes.
BEST_MODULARITY = 0.4198
# Louvain finds it from some seeds and a division a little worse from others.
SEEDS = range(200)


@dataclass(frozen=True)
class Club:
    """A graph in CSR form: rowptr int64 [n + 1], col int64 [nnz]; features float32 [n, n]; label int64 [n]."""

    rowptr: numpy.ndarray
    col: numpy.ndarray
    features: numpy.ndarray
    label: numpy.ndarray


def load_club() -> Club:
    """The club, unweighted; a node's features say only which node it is."""
    graph = networkx.karate_club_graph()
    adjacency = networkx.to_scipy_sparse_array(graph, weight=None, format="csr", dtype=numpy.float32)
    adjacency.sort_indices()
    count = graph.number_of_nodes()
    label = numpy.empty(count, dtype=numpy.int64)
    for number, members in enumerate(sorted(_communities(graph), key=min)):
        label[list(members)] = number
    features = numpy.eye(count, dtype=numpy.float32)
    return Club(adjacency.indptr.astype(numpy.int64), adjacency.indices.astype(numpy.int64), features, label)


def _communities(graph: networkx.Graph) -> list[set[int]]:
    for seed in SEEDS:
        found = networkx.community.louvain_communities(graph, weight=None, seed=seed)
        if networkx.community.modularity(graph, found, weight=None) >= BEST_MODULARITY - 5e-5:
            return found
    raise RuntimeError("Louvain no longer finds the best division of the karate club; widen SEEDS")


def one_label_each(club: Club) -> numpy.ndarray:
    """The node of every community that meets the most others, of which one would ask first: int64 [communities]."""
    degree = numpy.diff(club.rowptr)
    return numpy.array([nodes[degree[nodes].argmax()] for nodes in _members(club)])


def any_label_each(club: Club, seed: int) -> numpy.ndarray:
    """A node of every community, whichever: int64 [communities]."""
    generator = numpy.random.default_rng(seed)
    return numpy.array([generator.choice(nodes) for nodes in _members(club)])


def _members(club: Club) -> list[numpy.ndarray]:
    return [numpy.flatnonzero(club.label == number) for number in range(club.label.max() + 1)]
