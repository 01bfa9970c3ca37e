"""Graphs of different sizes share a call, and each gets its own outputs."""

import numpy
import pytest

from handlers.batching import GraphBatching, StackBatching, group
from handlers.errors import ModelError, RequestError
from handlers.signature import TensorSpec

SPECS = (
    TensorSpec("rowptr", numpy.dtype("int32"), (-1,)),
    TensorSpec("col", numpy.dtype("int32"), (-1,)),
    TensorSpec("value", numpy.dtype("float32"), (-1,), optional=True),
    TensorSpec("x", numpy.dtype("float32"), (-1, 3)),
)


def graph(nodes: int, edges: int, seed: int = 0, **changes) -> dict[str, numpy.ndarray]:
    random = numpy.random.default_rng(seed)
    row = numpy.sort(random.integers(0, max(nodes, 1), edges if nodes else 0))
    inputs = {
        "rowptr": numpy.searchsorted(row, numpy.arange(nodes + 1)).astype(numpy.int32),
        "col": random.integers(0, max(nodes, 1), len(row)).astype(numpy.int32),
        "value": random.random(len(row), dtype=numpy.float32),
        "x": random.random((nodes, 3), dtype=numpy.float32),
    }
    inputs["rowptr"][-1] = len(row)
    return inputs | changes


def propagate(inputs) -> dict[str, numpy.ndarray]:
    """A·x, row by row."""
    y = numpy.zeros_like(inputs["x"])
    for row in range(len(y)):
        for edge in range(inputs["rowptr"][row], inputs["rowptr"][row + 1]):
            y[row] += inputs["value"][edge] * inputs["x"][inputs["col"][edge]]
    return {"y": y}


def test_joined_graphs_are_one_block_diagonal_graph():
    batching = GraphBatching(SPECS)
    graphs = [graph(5, 9, 1), graph(1, 0, 2), graph(0, 0, 3), graph(7, 20, 4)]
    joined = batching.join(graphs)
    assert {name: value.dtype for name, value in joined.items()} == {spec.name: spec.dtype for spec in SPECS}
    assert joined["x"].shape == (13, 3) and len(joined["rowptr"]) == 14 and len(joined["col"]) == 29
    batching.check(joined)
    for one, got in zip(graphs, batching.split(propagate(joined), graphs), strict=True):
        numpy.testing.assert_allclose(got["y"], propagate(one)["y"], rtol=1e-6)


def test_edge_values_left_out_are_ones():
    inputs = graph(4, 6)
    del inputs["value"]
    GraphBatching(SPECS).check(inputs)
    assert inputs["value"].dtype == numpy.float32 and (inputs["value"] == 1).all() and len(inputs["value"]) == 6


def test_a_model_without_edge_values_gets_none():
    inputs = {name: value for name, value in graph(4, 6).items() if name != "value"}
    GraphBatching([spec for spec in SPECS if spec.name != "value"]).check(inputs)
    assert "value" not in inputs


def int32(*values: int) -> numpy.ndarray:
    return numpy.array(values, dtype=numpy.int32)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"rowptr": int32()}, "rowptr", "must start with 0"),
        ({"rowptr": int32(1, 2, 3, 4, 6)}, "rowptr", "must start with 0"),
        ({"rowptr": int32(0, 3, 2, 4, 6)}, "rowptr", "must not decrease"),
        ({"rowptr": int32(0, 1, 2, 3, 5)}, "rowptr", "must end with the number of columns, 6, got 5"),
        ({"col": int32(0, 1, 2, 3, 4, 0)}, "col", "nodes from 0 to 3"),
        ({"col": int32(0, 1, 2, -1, 3, 0)}, "col", "nodes from 0 to 3"),
        ({"value": numpy.ones(5, numpy.float32)}, "value", "every edge, 6, got 5"),
        ({"x": numpy.ones((3, 3), numpy.float32)}, "x", "every node, 4, got 3"),
    ],
)
def test_a_broken_graph_is_refused_by_name(changes, field, message):
    with pytest.raises(RequestError, match=message) as caught:
        GraphBatching(SPECS).check(graph(4, 6, **changes))
    assert caught.value.field == field


def test_a_joined_graph_that_outgrows_its_indices_is_refused():
    huge = graph(2, 2)
    huge["col"] = numpy.lib.stride_tricks.as_strided(huge["col"], (2**31 - 2,), (0,))  # without memory
    with pytest.raises(ModelError, match="'rowptr' of the joined graph does not fit"):
        GraphBatching(SPECS).join([huge, graph(2, 2)])


def test_groups_keep_order_and_join_only_equal_shapes():
    requests = {0: {"x": numpy.zeros(2)}, 2: {"x": numpy.zeros(3)}, 5: {"x": numpy.zeros(2)}}
    assert group(requests, StackBatching()) == [[0, 5], [2]]


def test_outputs_without_one_row_per_node_are_our_fault():
    with pytest.raises(ModelError, match="first dimension is the node"):
        GraphBatching(SPECS).split({"y": numpy.zeros(5)}, [graph(4, 6)])
