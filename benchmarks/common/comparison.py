"""Compares a computation of opserve's with a baseline: what a user would otherwise call.

A figure is the baseline's time divided by ours. Both are measured in the same run, in turns, and each turn repeats a
call until it takes long enough to be timed well; the median of the turns counts. A baseline may have several forms, of
which the fastest counts; one that is far behind in the warm-up takes no turns. Every form's result is first compared
with ours.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy
import torch

from benchmarks.common.timing import seconds_per_call, take_turns

TURN_SECONDS = 400e-6
WARM_UP_SECONDS = 30e-3
MIN_ROUNDS = 20
# More rounds where they are cheap: a median of many is steadier.
COMPARISON_SECONDS = 0.25
MAX_ROUNDS = 200
# A form that is this many times slower than the best one will not overtake it.
MAX_SLOWDOWN = 3.0

Call = Callable[[], object]


@dataclass(frozen=True)
class SelfTimed:
    """A call that measures itself, such as a program, or work on a GPU.

    Attributes:
        call: Computes the result.
        seconds: Measures the time of one call with a number of threads.
    """

    call: Call
    seconds: Callable[[int], float]

    def __call__(self) -> object:
        """Computes the result."""
        return self.call()


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is compared.

    Attributes:
        subject: What is measured, such as an operator.
        baseline: What it is compared with. All comparisons of a subject and a baseline share their goal.
        case: Sizes, in a few characters.
        goal: The least geometric mean of the ratios; `None` without a goal.
        floor: The least ratio of every single case; `None` if only the mean has a goal.
        work: Floating-point operations or bytes of one call; 0 if unknown.
        work_unit: `flop` or `byte`.
    """

    subject: str
    baseline: str
    case: str
    goal: float | None = None
    floor: float | None = None
    work: float = 0.0
    work_unit: str = "flop"


@dataclass(frozen=True, kw_only=True)
class Comparison(Case):
    """One computation of opserve's and its baseline.

    Attributes:
        ours: Computes the result with opserve.
        forms: The ways to compute it with the baseline, by name.
        threads: Numbers of threads to measure with.
        set_threads: Sets the number of threads of a library other than PyTorch.
        tolerance: The largest difference of results, relative to the largest element of ours; `None`: not compared.
        work_share: The share of our work that the baseline does; its time is scaled accordingly.
        gradients: Whether gradients are recorded; otherwise everything runs in `inference_mode`.
    """

    ours: Call
    forms: Mapping[str, Call]
    threads: Sequence[int] = (1, 2)
    set_threads: Callable[[int], None] | None = None
    tolerance: float | None = 1e-4
    work_share: float = 1.0
    gradients: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement(Case):
    """The outcome of a comparison with one number of threads; times are in microseconds.

    Attributes:
        form: The fastest form of the baseline.
        ratio: Its time divided by ours.
        rounds: How often each form had its turn.
    """

    threads: int
    ours_us: float
    form: str
    baseline_us: float
    forms_us: dict[str, float]
    ratio: float
    rounds: int


def compare(comparisons: Iterable[Comparison], rounds: int | None = None) -> Iterator[Measurement]:
    """Measures comparisons one after the other, each with every number of threads.

    Args:
        comparisons: What to measure.
        rounds: How often each form has its turn; by default as often as its speed asks for.

    Raises:
        ValueError: A form of a baseline computes something else.
    """
    threads_before = torch.get_num_threads()
    try:
        for comparison in comparisons:
            with torch.inference_mode(not comparison.gradients):
                _check_results(comparison)
            for threads in comparison.threads:
                torch.set_num_threads(threads)
                if comparison.set_threads is not None:
                    comparison.set_threads(threads)
                with torch.inference_mode(not comparison.gradients):
                    measurement = measure(comparison, threads, rounds)
                yield measurement
    finally:
        torch.set_num_threads(threads_before)


def measure(comparison: Comparison, threads: int, rounds: int | None = None) -> Measurement:
    """Measures one comparison with the number of threads that is set."""
    calls: dict[str, Call] = {"opserve": comparison.ours, **comparison.forms}
    fastest = {name: _warm_up(call, threads) for name, call in calls.items()}
    limit = MAX_SLOWDOWN * min(fastest[name] for name in comparison.forms)
    turns = {
        name: partial(_seconds, call, max(1, math.ceil(TURN_SECONDS / fastest[name])), threads)
        for name, call in calls.items()
        if name not in comparison.forms or fastest[name] <= limit
    }
    begin = time.perf_counter()

    def enough(done: int) -> bool:
        if rounds is not None:
            return done >= rounds
        return done >= MAX_ROUNDS or (done >= MIN_ROUNDS and time.perf_counter() - begin >= COMPARISON_SECONDS)

    samples = take_turns(turns, enough)
    medians = {name: statistics.median(seconds) * 1e6 for name, seconds in samples.items()}
    ours = medians.pop("opserve")
    medians = {name: microseconds / comparison.work_share for name, microseconds in medians.items()}
    form = min(medians, key=medians.__getitem__)
    return Measurement(
        **{field.name: getattr(comparison, field.name) for field in fields(Case)},
        threads=threads,
        ours_us=ours,
        form=form,
        baseline_us=medians[form],
        forms_us=medians,
        ratio=medians[form] / ours,
        rounds=len(samples["opserve"]),
    )


def _seconds(call: Call, repeats: int, threads: int) -> float:
    return call.seconds(threads) if isinstance(call, SelfTimed) else seconds_per_call(call, repeats)


def _warm_up(call: Call, threads: int) -> float:
    """Calls until the clock and the caches have settled; returns the seconds of the fastest call."""
    fastest, end = math.inf, time.perf_counter() + WARM_UP_SECONDS
    calls = 0
    while calls < 2 or time.perf_counter() < end:
        fastest = min(fastest, _seconds(call, 1, threads))
        calls += 1
    return fastest


def _check_results(comparison: Comparison) -> None:
    if comparison.tolerance is None:
        return
    ours = _tensors(comparison.ours())
    for name, call in comparison.forms.items():
        where = f"{comparison.subject} {comparison.case}: {name}"
        results = _tensors(call())
        if len(results) != len(ours):
            raise ValueError(f"{where} returns {len(results)} results, ours {len(ours)}")
        for i, (a, b) in enumerate(zip(ours, results, strict=True)):
            if a.numel() != b.numel():
                raise ValueError(f"{where}: result {i} has another size")
            if a.numel() == 0:
                continue
            got, expected = (tensor.detach().double().flatten() for tensor in (a, b))
            difference = (got - expected).abs().max().item() / max(got.abs().max().item(), 1e-30)
            if not difference <= comparison.tolerance:
                raise ValueError(f"{where}: result {i} differs from ours by {difference:.1e}")


def _tensors(result: object) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, Mapping):
        result = [result[name] for name in sorted(result)]
    if isinstance(result, tuple | list):
        return [tensor for item in result for tensor in _tensors(item)]
    return [torch.as_tensor(numpy.array(result))]
