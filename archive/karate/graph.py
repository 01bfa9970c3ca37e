"""The social network of a karate club (Zachary, 1977) and its four communities."""

from dataclasses import dataclass

import networkx
import numpy

# The highest modularity that any division has: U. Brandes et al., "On Modularity Clustering" (2008). Kipf and Welling
# (2017, appendix A) take its four communities as the classes.
BEST_MODULARITY = 0.4198
# Louvain finds it from some seeds, and a slightly worse division from others.
SEEDS = range(200)


@dataclass(frozen=True)
class LabeledGraph:
    """A graph in CSR form: rowptr int64 [n + 1], col int64 [nnz]; features float32 [n, n]; label int64 [n]."""

    rowptr: numpy.ndarray
    col: numpy.ndarray
    features: numpy.ndarray
    label: numpy.ndarray

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.label.max()) + 1


def load_karate_graph() -> LabeledGraph:
    """The club's graph, unweighted; the features of a node only say which node it is."""
    graph = networkx.karate_club_graph()
    adjacency = networkx.to_scipy_sparse_array(graph, weight=None, format="csr", dtype=numpy.float32)
    adjacency.sort_indices()
    count = graph.number_of_nodes()
    label = numpy.empty(count, dtype=numpy.int64)
    for number, members in enumerate(sorted(_communities(graph), key=min)):
        label[list(members)] = number
    features = numpy.eye(count, dtype=numpy.float32)
    return LabeledGraph(adjacency.indptr.astype(numpy.int64), adjacency.indices.astype(numpy.int64), features, label)


def _communities(graph: networkx.Graph) -> list[set[int]]:
    for seed in SEEDS:
        found = networkx.community.louvain_communities(graph, weight=None, seed=seed)
        if networkx.community.modularity(graph, found, weight=None) >= BEST_MODULARITY - 5e-5:
            return found
    raise RuntimeError("Louvain no longer finds the best division of the karate club; widen SEEDS")


def hub_per_class(graph: LabeledGraph) -> numpy.ndarray:
    """The node with the most neighbours in each class: int64 [classes]."""
    degree = numpy.diff(graph.rowptr)
    return numpy.array([nodes[degree[nodes].argmax()] for nodes in _members(graph)])


def random_node_per_class(graph: LabeledGraph, seed: int) -> numpy.ndarray:
    """A random node of each class: int64 [classes]."""
    generator = numpy.random.default_rng(seed)
    return numpy.array([generator.choice(nodes) for nodes in _members(graph)])


def _members(graph: LabeledGraph) -> list[numpy.ndarray]:
    return [numpy.flatnonzero(graph.label == number) for number in range(graph.classes)]
