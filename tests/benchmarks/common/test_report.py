"""Tables of comparisons, and the files that a benchmark writes."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.common import report
from benchmarks.common.command import write_results
from benchmarks.common.comparison import Comparison, Measurement
from benchmarks.common.suite import run_comparisons
from tests.benchmarks.common.test_comparison import make_comparison, measure_one, takes

DEFAULT = measure_one(make_comparison())


def make_measurement(ratio: float, **changes: object) -> Measurement:
    return replace(DEFAULT, **{"ratio": ratio, "goal": 1.3, "floor": 0.95} | changes)


@pytest.mark.parametrize(
    ("ratios", "changes", "verdict"),
    [
        ((1.4, 1.3), {}, "met"),
        ((2.0, 1.0), {}, "met"),
        ((3.0, 0.9), {}, "missed in places"),
        ((3.0, 0.9), {"floor": None}, "met"),
        ((1.3, 1.2), {}, "missed"),
        ((0.1, 0.1), {"goal": None, "floor": None}, ""),
    ],
)
def test_verdicts(ratios: tuple[float, ...], changes: dict[str, object], verdict: str) -> None:
    (row,) = report.summarize([make_measurement(ratio, **changes) for ratio in ratios]).splitlines()[2:]
    assert row.split("|")[-2].strip() == verdict


def test_the_summary_keeps_subjects_baselines_and_threads_apart() -> None:
    measurements = [make_measurement(2.0), make_measurement(8.0), make_measurement(3.0, threads=2)]
    measurements += [make_measurement(5.0, baseline="another", goal=None, floor=None)]
    rows = report.summarize(measurements).replace(report.TIMES, "x").splitlines()[2:]
    assert rows[0] == "| `twice` | the baseline | 1 | 4.00x (2.00 to 8.00) | ≥ 1.3x, nowhere < 0.95x | met |"
    assert rows[1].startswith("| `twice` | the baseline | 2 | 3.00x (3.00 to 3.00) |")
    assert rows[2] == "| `twice` | another | 1 | 5.00x (5.00 to 5.00) |  |  |"


def test_a_suite_prints_and_writes_its_comparisons(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def twice(*, quick: bool) -> Iterator[Comparison]:
        yield make_comparison(threads=(1, 2))
        if not quick:
            yield make_comparison(baseline="another", forms={"it": takes(1e-6)})

    def skipped(*, quick: bool) -> Iterator[Comparison]:
        raise AssertionError

    arguments = ["--only", "^t", "--output", str(tmp_path / "results")]
    assert run_comparisons("test", "What it is.", "Title", {"twice": twice, "skipped": skipped}, arguments) == 0
    written = json.loads((tmp_path / "results" / "test.json").read_text())
    assert [found["ratio"] for found in written["measurements"]] == pytest.approx([1.5, 1.5, 0.5])
    page = (tmp_path / "results" / "test.md").read_text()
    assert page.startswith("# Title\n\nWritten by `python -m benchmarks.test`.")
    assert f"cores {written['machine']['cores']}" in page and "![Ratios](test.png)" in page
    assert "| `twice` | another |" in page and "| `twice` | another |" in capsys.readouterr().out
    assert (tmp_path / "results" / "test.png").read_bytes().startswith(b"\x89PNG")
    assert run_comparisons("test", "", "", {"twice": twice}, ["--only", "nothing"]) == 1


def test_json_holds_no_nan(tmp_path: Path) -> None:
    figures = {"rates": [{"p99": math.nan, "rate": 1.5}]}
    write_results(tmp_path, "test", title="", introduction="", machine={}, body="", figures=figures)
    assert json.loads((tmp_path / "test.json").read_text(), parse_constant=pytest.fail)["rates"] == [
        {"p99": None, "rate": 1.5}
    ]
