"""The normalisation that a graph convolution wants, so that a request is the plain graph."""

import numpy

from handlers.errors import RequestError


def preprocess(inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """Adds self-loops and scales by both degrees: D^-1/2 (A + I) D^-1/2 (Kipf and Welling, 2017, equation 2).

    Args:
        inputs: `rowptr` [n + 1] and `col` [nnz] of a checked graph, its edge weights `value` [nnz], `x` [n, 34].

    Returns:
        The graph with n more edges, the first of each row being the self-loop; `x` as it was.

    Raises:
        RequestError: an edge weight is negative or not finite.
    """
    rowptr, col, value = inputs["rowptr"], inputs["col"], inputs["value"]
    if not (value >= 0).all() or numpy.isinf(value).any():
        raise RequestError("'value' must hold finite weights of 0 or more", field="value")
    count = len(rowptr) - 1
    nodes = numpy.arange(count, dtype=rowptr.dtype)
    row = numpy.repeat(nodes, numpy.diff(rowptr))
    degree = 1 + numpy.bincount(row, weights=value, minlength=count)
    scale = 1 / numpy.sqrt(degree)
    looped = {
        "rowptr": rowptr + numpy.arange(count + 1, dtype=rowptr.dtype),
        "col": numpy.insert(col, rowptr[:-1], nodes),
        "value": numpy.insert(value * scale[row] * scale[col], rowptr[:-1], scale * scale).astype(value.dtype),
    }
    return inputs | looped
