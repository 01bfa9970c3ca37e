"""The harness of the operator benchmarks: what it compares, what it counts, and what it says of the goals."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from archive.repository import ROOT
from benchmarks import ops_bench
from benchmarks.ops_bench import Clocked, Contest, Line

X = torch.arange(1.0, 5.0)


def contest(**changes: object) -> Contest:
    """Ours is a clock of 2 µs; the peers' are what a test says."""
    common = {
        "op": "twice",
        "against": "the peer",
        "case": "4",
        "ours": clock(2e-6),
        "peers": {"it": clock(3e-6)},
        "goal": 1.0,
        "threads": (1,),
    }
    return Contest(**common | changes)


def clock(seconds: float, result: Callable[[], object] = lambda: 2 * X) -> Clocked:
    return Clocked(result, lambda threads: seconds / threads)


def only(made: Contest) -> Line:
    (line,) = ops_bench.run([made])
    return line


def line(ratio: float, **changes: object) -> Line:
    common = replace(only(contest()), ratio=ratio, goal=1.3, floor=0.95)
    return replace(common, **changes)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda: 2 * X + torch.tensor([0, 0, 0, 0.0101]), "it: result 0 is 1.3e-03 apart from ours"),
        (lambda: X[:3], "it: result 0 has another size"),
        (lambda: (2 * X, X), "it gives 2 results, ours 1"),
        (lambda: 2 * X * torch.nan, "it: result 0 is nan apart from ours"),
    ],
)
def test_a_peer_that_computes_something_else_is_refused(result: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^twice 4: {re.escape(message)}$"):
        only(contest(peers={"right": clock(1e-6), "it": clock(1e-6, result)}))


def test_results_that_are_not_to_be_compared_are_not() -> None:
    assert only(contest(peers={"it": clock(1e-6, lambda: X)}, tolerance=None)).ratio == pytest.approx(0.5)


def test_the_fastest_form_of_the_peer_counts_and_hopeless_ones_take_no_turns() -> None:
    forms = {"slow": clock(5e-6), "fast": clock(3e-6), "hopeless": clock(1.0)}
    found = only(contest(peers=forms))
    assert (found.peer, found.ratio) == ("fast", pytest.approx(1.5))
    assert list(found.forms_us) == ["slow", "fast"]
    assert found.turns >= ops_bench.MIN_TURNS


def test_ours_takes_its_turns_however_slow_it_is() -> None:
    assert only(contest(ours=clock(1.0))).ratio == pytest.approx(3e-6)


def test_a_peer_that_does_a_share_counts_for_the_whole() -> None:
    found = only(contest(peers={"half": clock(3e-6)}, share=0.5))
    assert found.peer_us == pytest.approx(6.0)
    assert found.ratio == pytest.approx(3.0)


def test_every_number_of_threads_is_set_and_put_back() -> None:
    before = torch.get_num_threads()
    seen, told = [], []

    def ours(threads: int) -> float:
        seen.append((threads, torch.get_num_threads()))
        return 1e-6

    lines = list(ops_bench.run([contest(ours=Clocked(lambda: 2 * X, ours), threads=(1, 2))], told.append, turns=3))
    assert [found.threads for found in lines] == [1, 2]
    assert set(seen) == {(1, 1), (2, 2)}
    assert told == [1, 2]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("gradients", [True, False])
def test_gradients_are_recorded_where_the_contest_says_so(gradients: bool) -> None:
    modes = set()

    def ours() -> torch.Tensor:
        modes.add(torch.is_inference_mode_enabled())
        return 2 * X

    list(ops_bench.run([contest(ours=ours, peers={"it": lambda: X + X}, gradients=gradients)], turns=2))
    assert modes == {not gradients}


def test_calls_that_cannot_tell_the_time_are_timed() -> None:
    calls = []
    found = only(contest(ours=lambda: calls.append(1) or 2 * X, peers={"it": lambda: X + X}))
    assert 0 < found.ours_us < 1e6
    assert found.ratio == pytest.approx(found.peer_us / found.ours_us)
    assert len(calls) > found.turns


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
    lines = [line(ratio, **changes) for ratio in ratios]
    (row,) = ops_bench.summary(lines).splitlines()[2:]
    assert row.split("|")[-2].strip() == verdict


def test_the_summary_keeps_operators_peers_and_threads_apart() -> None:
    lines = [line(2.0), line(8.0), line(3.0, threads=2), line(5.0, against="another", goal=None, floor=None)]
    rows = ops_bench.summary(lines).replace(ops_bench.TIMES, "x").splitlines()[2:]
    assert rows[0] == "| `twice` | the peer | 1 | 4.00x (2.00 to 8.00) | ≥ 1.3x, nowhere < 0.95x | met |"
    assert rows[1].startswith("| `twice` | the peer | 2 | 3.00x (3.00 to 3.00) |")
    assert rows[2] == "| `twice` | another | 1 | 5.00x (5.00 to 5.00) |  |  |"


def test_what_is_written(tmp_path: Path) -> None:
    lines = [line(2.0), line(0.5, threads=2), line(1.0, against="another", goal=None, floor=None)]
    results, page, picture = ops_bench.write(lines, {"processor": "one"}, tmp_path / "docs")
    written = json.loads(results.read_text())
    assert written["machine"] == {"processor": "one"}
    assert [found["ratio"] for found in written["lines"]] == [2.0, 0.5, 1.0]
    text = page.read_text()
    assert ops_bench.summary(lines) in text
    assert f"![Ratios]({picture.name})" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command(tmp_path: Path) -> None:
    """On the operators whose peers need no compiler; it compares the results before it measures."""
    names = ["graph_conv", "graph_conv_csr", "scaled_add", "warp_perspective"]
    command = [sys.executable, "-m", "benchmarks.ops", "--quick", "--output", str(tmp_path)]
    for name in names:
        command += ["--op", name]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    lines = json.loads((tmp_path / "ops_benchmark.json").read_text())["lines"]
    assert {found["op"] for found in lines} == set(names)
    counted = re.findall(r"^ *(\d+) of (\d+)  ", result.stdout, re.MULTILINE)
    assert counted == [(str(i + 1), str(len(lines))) for i in range(len(lines))]
