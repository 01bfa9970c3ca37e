"""Comparisons: what they measure and what they refuse."""

import re
from collections.abc import Callable

import pytest
import torch

from benchmarks.common.comparison import MIN_ROUNDS, Comparison, Measurement, SelfTimed, compare

X = torch.arange(1.0, 5.0)


def make_comparison(**changes: object) -> Comparison:
    """Ours takes 2 µs, and the baseline what a test says."""
    defaults = {
        "subject": "twice",
        "baseline": "the baseline",
        "case": "4",
        "ours": takes(2e-6),
        "forms": {"it": takes(3e-6)},
        "goal": 1.0,
        "threads": (1,),
    }
    return Comparison(**defaults | changes)


def takes(seconds: float, result: Callable[[], object] = lambda: 2 * X) -> SelfTimed:
    return SelfTimed(result, lambda threads: seconds / threads)


def measure_one(comparison: Comparison) -> Measurement:
    (measurement,) = compare([comparison])
    return measurement


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda: 2 * X + torch.tensor([0, 0, 0, 0.0101]), "it: result 0 differs from ours by 1.3e-03"),
        (lambda: X[:3], "it: result 0 has another size"),
        (lambda: (2 * X, X), "it returns 2 results, ours 1"),
        (lambda: 2 * X * torch.nan, "it: result 0 differs from ours by nan"),
        (lambda: {"a": 2 * X, "b": X}, "it returns 2 results, ours 1"),
    ],
)
def test_a_form_that_computes_something_else_is_refused(result: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^twice 4: {re.escape(message)}$"):
        measure_one(make_comparison(forms={"right": takes(1e-6), "it": takes(1e-6, result)}))


def test_results_by_name_are_compared_by_name() -> None:
    ours = takes(2e-6, lambda: {"a": X.numpy(), "b": 3})
    measured = measure_one(
        make_comparison(ours=ours, forms={"it": takes(1e-6, lambda: {"b": torch.tensor(3), "a": X})})
    )
    assert measured.ratio == pytest.approx(0.5)


def test_results_without_a_tolerance_are_not_compared() -> None:
    measured = measure_one(make_comparison(forms={"it": takes(1e-6, lambda: X)}, tolerance=None))
    assert measured.ratio == pytest.approx(0.5)


def test_the_fastest_form_counts_and_a_far_slower_one_takes_no_turns() -> None:
    forms = {"slow": takes(5e-6), "fast": takes(3e-6), "far slower": takes(1.0)}
    measured = measure_one(make_comparison(forms=forms))
    assert (measured.form, measured.ratio) == ("fast", pytest.approx(1.5))
    assert list(measured.forms_us) == ["slow", "fast"]
    assert measured.rounds >= MIN_ROUNDS


def test_ours_takes_its_turns_however_slow_it_is() -> None:
    assert measure_one(make_comparison(ours=takes(1.0))).ratio == pytest.approx(3e-6)


def test_the_time_of_a_form_that_does_a_share_of_the_work_is_scaled() -> None:
    measured = measure_one(make_comparison(forms={"half": takes(3e-6)}, work_share=0.5))
    assert measured.baseline_us == pytest.approx(6.0)
    assert measured.ratio == pytest.approx(3.0)


def test_every_number_of_threads_is_set_and_put_back() -> None:
    before = torch.get_num_threads()
    seen, set_elsewhere = [], []

    def ours(threads: int) -> float:
        seen.append((threads, torch.get_num_threads()))
        return 1e-6

    comparison = make_comparison(ours=SelfTimed(lambda: 2 * X, ours), threads=(1, 2), set_threads=set_elsewhere.append)
    assert [measured.threads for measured in compare([comparison], rounds=3)] == [1, 2]
    assert set(seen) == {(1, 1), (2, 2)}
    assert set_elsewhere == [1, 2]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("gradients", [True, False])
def test_gradients_are_recorded_only_where_a_comparison_wants_them(gradients: bool) -> None:
    modes = set()

    def ours() -> torch.Tensor:
        modes.add(torch.is_inference_mode_enabled())
        return 2 * X

    list(compare([make_comparison(ours=ours, forms={"it": lambda: X + X}, gradients=gradients)], rounds=2))
    assert modes == {not gradients}


def test_calls_that_do_not_measure_themselves_are_timed() -> None:
    calls = []
    measured = measure_one(make_comparison(ours=lambda: calls.append(1) or 2 * X, forms={"it": lambda: X + X}))
    assert 0 < measured.ours_us < 1e6
    assert measured.ratio == pytest.approx(measured.baseline_us / measured.ours_us)
    assert len(calls) > measured.rounds
