"""A response is compared with the expected one."""

import math
from typing import Any

import pytest

from handlers.sample import difference


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ({"label": 7, "p": [0.1, 0.9]}, {"label": 7, "p": [0.100009, 0.9]}),
        ({"p": 1}, {"p": 1.0}),
        ([3e6], [3e6 + 1]),
        ([None, True, "a"], [None, True, "a"]),
    ],
)
def test_equal_values_agree(got: Any, expected: Any) -> None:
    assert difference(got, expected, 1e-5) is None


@pytest.mark.parametrize(
    ("got", "expected", "where"),
    [
        ({"p": [0.1, 0.9]}, {"p": [0.1, 0.90002]}, "answer.p[1]"),
        ({"label": 7}, {"label": 8}, "answer.label"),
        ({"label": True}, {"label": 1}, "answer.label"),
        ({}, {"label": 1}, "answer has the keys []"),
        ({"label": 1}, {}, "expected []"),
        ({"count": 1_000_001}, {"count": 1_000_000}, "answer.count"),
        ([1], [1, 2], "1 elements, expected 2"),
        ([None], [0.5], "answer[0]"),
        ([math.nan], [0.5], "answer[0]"),
    ],
)
def test_the_first_difference_is_described(got: Any, expected: Any, where: str) -> None:
    assert where in difference(got, expected, 1e-5)
