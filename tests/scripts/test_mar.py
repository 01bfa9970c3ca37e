"""Comparing an answer with the expected one, and reading archives."""

import math
from typing import Any

import pytest

from scripts import mar


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ({"label": 7, "p": [0.1, 0.9]}, {"label": 7, "p": [0.100009, 0.9]}),
        ({"p": 1}, {"p": 1.0}),
        ([None, True, "a"], [None, True, "a"]),
    ],
)
def test_the_same(got: Any, expected: Any) -> None:
    assert mar.differences(got, expected, 1e-5) == []


@pytest.mark.parametrize(
    ("got", "expected", "where"),
    [
        ({"p": [0.1, 0.9]}, {"p": [0.1, 0.90002]}, "answer.p[1]"),
        ({"label": 7}, {"label": 8}, "answer.label"),
        ({"label": True}, {"label": 1}, "answer.label"),
        ({}, {"label": 1}, "label is missing"),
        ({"label": 1}, {}, "label is not expected"),
        ([1], [1, 2], "1 items, expected 2"),
        ([None], [0.5], "answer[0]"),
        ([math.nan], [0.5], "answer[0]"),
    ],
)
def test_different(got: Any, expected: Any, where: str) -> None:
    (found,) = mar.differences(got, expected, 1e-5)
    assert where in found
