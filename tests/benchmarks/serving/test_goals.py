"""How a run is judged and presented."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.serving import plots, report
from benchmarks.serving.goals import (
    DIGITS,
    GRAPH_JSON,
    GRAPH_NPZ,
    GRAPH_SHARED,
    LATENCY,
    THROUGHPUT,
    TINY,
    judge,
)
from benchmarks.serving.rounds import Findings, Measurement, Plan
from benchmarks.serving.torchserves import NATIVE, STOCK, onnx_workers

NATIVE_LATENCY, NATIVE_THROUGHPUT = NATIVE["latency"], NATIVE["throughput"]


def make_measurement(server: str, workload: str, connections: int, rate: float, **changes: object) -> Measurement:
    measurement = Measurement(
        server=server,
        workload=workload,
        operator="opserve",
        connections=connections,
        rate=rate,
        p50_ms=1.0,
        p99_ms=2.0,
        requests=1000,
        errors=0,
        cpu_ms=0.5,
        memory=2**20,
        generator_cpu=0.1,
        generator_limited=False,
    )
    return replace(measurement, **changes)


def verdicts(*measurements: Measurement, **changes: dict) -> dict[tuple[str, str], tuple[str, str]]:
    """(work, goal) -> (verdict, measured)."""
    findings = replace(Findings(list(measurements)), **changes)
    return {(each.work, each.goal): (each.verdict, each.measured) for each in judge(findings)}


def test_goals_are_met_or_missed_by_a_share() -> None:
    found = verdicts(
        make_measurement(THROUGHPUT, TINY, 8, 7000.0),
        make_measurement(LATENCY, TINY, 8, 9000.0),
        make_measurement(STOCK, TINY, 8, 1000.0),
        make_measurement("FastAPI", TINY, 8, 7000.0),
        make_measurement("mosec, batches of 8", TINY, 8, 7500.0),
        make_measurement("FastAPI, orjson", TINY, 8, 99000.0),
    )
    work = f"{TINY}, 8 connections"
    assert found[work, "≥ 7 times stock TorchServe"][0] == "met"
    assert found[work, "≥ 1.5 times FastAPI"] == (
        "missed by 33 %",
        f"1.00 times FastAPI ({THROUGHPUT}: 7,000/s, 7,000/s)",
    )
    assert found[work, "level with batching mosec (≥ 0.9 times)"][0] == "met"
    assert found[f"{TINY}, 1 connection", "≥ 2 times stock TorchServe"] == ("not measured", "")


def test_the_fastest_peer_counts_and_ours_is_not_a_peer() -> None:
    found = verdicts(
        make_measurement(THROUGHPUT, DIGITS, 8, 90.0),
        make_measurement(LATENCY, DIGITS, 8, 100.0),
        make_measurement("Flask", DIGITS, 8, 50.0),
        make_measurement("FastAPI", DIGITS, 8, 125.0),
    )
    assert found[f"{DIGITS}, 8 connections", "faster than every peer"] == (
        "missed by 20 %",
        f"0.80 times FastAPI ({LATENCY}: 100/s, 125/s)",
    )


def test_the_native_worker_has_goals_of_its_own() -> None:
    measurements = [
        make_measurement(NATIVE_THROUGHPUT, TINY, 8, 15000.0),
        make_measurement(THROUGHPUT, TINY, 8, 99000.0),
        make_measurement(STOCK, TINY, 8, 1000.0),
        make_measurement("mosec, batches of 8", TINY, 8, 12500.0),
        make_measurement(NATIVE_LATENCY, GRAPH_NPZ, 8, 900.0),
        make_measurement("mosec", GRAPH_NPZ, 8, 500.0, operator="PyTorch"),
        make_measurement(NATIVE_LATENCY, GRAPH_JSON, 8, 150.0),
        make_measurement("FastAPI, orjson", GRAPH_JSON, 8, 50.0),
    ]
    findings = Findings(
        measurements,
        scale_s={NATIVE_LATENCY: 0.5, onnx_workers(NATIVE_LATENCY): 0.31},
        worker_memory={NATIVE_LATENCY: 260 * 2**20},
        worker_starts_s={onnx_workers(NATIVE_LATENCY): 0.1},
    )
    found = {(each.work, each.goal): each.verdict for each in judge(findings, {GRAPH_NPZ: 1000.0})}
    tiny, npz, json = (f"{workload}, 8 connections" for workload in (TINY, GRAPH_NPZ, GRAPH_JSON))
    assert found[tiny, "≥ 15 times stock TorchServe"] == "met"
    assert found[tiny, "≥ 1.3 times batching mosec"] == "missed by 8 %"
    assert found[npz, "≥ 1.5 times every peer, whichever operator it runs"] == "met"
    assert found[npz, "≥ 0.8 of the same in one process of C++"] == "met"
    assert found[json, "≥ 200/s"] == "missed by 25 %"
    assert found[json, "≥ 2.5 times FastAPI with orjson"] == "met"
    assert found["scaling from 1 to 2 native workers, TorchScript", "≤ 0.6 s"] == "met"
    assert found["scaling from 1 to 2 native workers, ONNX", "≤ 0.3 s"] == "missed by 3 %"
    assert found["memory of a native worker, TorchScript", "≤ 130 MiB"] == "missed by 100 %"
    assert found["memory of a native worker, ONNX", "≤ 60 MiB"] == "not measured"
    assert found["start of a native worker, ONNX", "≤ 0.3 s"] == "met"


def test_server_and_operator_are_judged_apart() -> None:
    found = verdicts(
        make_measurement(LATENCY, GRAPH_NPZ, 8, 100.0),
        make_measurement("FastAPI", GRAPH_NPZ, 8, 90.0, operator="PyTorch"),
        make_measurement("FastAPI", GRAPH_NPZ, 8, 130.0),
        make_measurement(THROUGHPUT, GRAPH_SHARED, 8, 130.0),
        make_measurement(LATENCY, GRAPH_JSON, 8, 100.0),
        make_measurement("Flask", GRAPH_JSON, 8, 20.0),
        make_measurement("FastAPI, orjson", GRAPH_JSON, 8, 40.0),
        make_measurement("Triton", GRAPH_JSON, 8, 60.0),
    )
    npz, json = f"{GRAPH_NPZ}, 8 connections", f"{GRAPH_JSON}, 8 connections"
    assert found[npz, "faster than every peer with plain PyTorch"][0] == "met"
    assert found[npz, "≥ 0.8 times the fastest peer with our operator"][0] == "missed by 4 %"
    assert found[f"{GRAPH_SHARED}, 8 connections", "faster than every peer with .npz"][0] == "met"
    assert found[json, "≥ 5 times every Python peer as its guide has it"][0] == "met"
    assert found[json, "≥ 5 times FastAPI with orjson"][0] == "missed by 50 %"
    assert found[json, "≥ 2 times Triton"][0] == "missed by 17 %"


def test_tail_latencies_starts_and_memory_are_judged_by_their_limits() -> None:
    found = verdicts(
        make_measurement(LATENCY, TINY, 32, 100.0, p99_ms=30.0),
        make_measurement("Flask", TINY, 32, 100.0, p99_ms=20.0),
        make_measurement("FastAPI", TINY, 32, 100.0, p99_ms=40.0),
        make_measurement("Ray Serve", TINY, 32, 1.0, p99_ms=1.0, requests=50),
        starts_s={LATENCY: [3.5, 2.5]},
        scale_s={LATENCY: 1.8},
        worker_memory={LATENCY: 200 * 2**20, STOCK: 250 * 2**20},
    )
    assert found[f"{TINY}, p99 at 32 connections", "no worse than the best peer's"][0] == "missed by 50 %"
    assert found["first right response after the start", "≤ 3 s"][0] == "met"
    assert found["scaling from 1 to 2 workers", "≤ 1.5 s"][0] == "missed by 20 %"
    assert found["memory of a worker", "≤ stock's"][0] == "met"


def test_the_page_has_every_figure_every_failure_and_the_rate_without_a_server() -> None:
    measurements = [
        make_measurement(LATENCY, TINY, 8, 1234.5),
        make_measurement("Flask", TINY, 8, 10.0, requests=20, errors=3, generator_limited=True),
        make_measurement("mute", TINY, 8, 0.0, p50_ms=math.nan, p99_ms=math.nan),
    ]
    findings = Findings(measurements, {LATENCY: [2.0]}, {}, {}, {"Triton": "cannot be installed: no wheel"})
    page = report.describe_findings(findings, judge(findings), {TINY: 5000.0}, {TINY: 9000.0})
    for text in (
        "1,234.5",
        "10 %, the limit",
        "| Flask | opserve | 8 | 10.0 \\* |",
        "| opserve, latency | opserve | 8 | 1,234.5 |",
        "Triton: cannot be installed: no wheel",
        "5,000.0 requests/s; in C++: 9,000.0.",
    ):
        assert text in page
    assert report.introduce(Plan([[]], {}, 2, 1)).startswith("1 round of 2 s")


BOTH = [make_measurement(server, TINY, count, 100.0) for server in (LATENCY, THROUGHPUT) for count in (1, 8)]


@pytest.mark.parametrize(
    "plot", [plots.plot_profiles, lambda shown, path: plots.plot_rates(shown, {TINY: 120.0}, path)]
)
def test_measurements_are_plotted(plot: Callable[[list[Measurement], Path], None], tmp_path: Path) -> None:
    plot(BOTH, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_profiles_are_plotted_only_if_both_were_measured() -> None:
    assert plots.has_both_profiles(BOTH, TINY)
    assert not plots.has_both_profiles([each for each in BOTH if each.server == LATENCY], TINY)
