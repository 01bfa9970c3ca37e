"""Measures opserve's server and other servers with the same models and the same requests, one server at a time.

Rates are right responses per second; latencies are ms at the median and the 99th percentile; processor time is ms per
request and memory MiB, of all processes of a server. Needs wrk. Installs the other servers into build/serving-peers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from archive.errors import OpserveError
from archive.process.command import run
from benchmarks.common import workloads
from benchmarks.common.command import describe_machine, make_parser, write_results
from benchmarks.common.payloads import shared_region
from benchmarks.common.workloads import Workload
from benchmarks.serving import environments, goals, in_process, plots, report, rounds, torchserves
from benchmarks.serving.peer_servers import PEER_SERVERS
from benchmarks.serving.rounds import Plan
from benchmarks.serving.servers import Server
from scripts.load import wrk

CONNECTIONS = (1, 8, 32)
SECONDS, ROUNDS = 2, 2
# A server that compiles while it runs, as Java does, is loaded for a while before it is first measured.
FIRST_WARM_UP_S, WARM_UP_S = 6, 1
# A quick run takes 3 minutes; servers that have not had their turn by then are left out and named.
QUICK_LIMIT_S = 130
IN_PROCESS_S = 0.5


def make_plan(sent: Sequence[Workload], elapsed: float, *, quick: bool) -> Plan:
    """Plans all measurements; or, if `quick`, one short round of the goals' workloads that ends in limited time.

    Args:
        sent: All workloads.
        elapsed: Seconds since the beginning.
        quick: Whether the run is a short one.
    """
    if quick:
        names = (goals.TINY, goals.DIGITS, goals.GRAPH_NPZ, goals.GRAPH_SHARED)
        chosen = [
            each for each in sent if each.name in names or (each.name, each.operator) == (goals.GRAPH_JSON, "opserve")
        ]
        return Plan([chosen], {"": (8,), goals.TINY: CONNECTIONS}, 1, 1, limit_s=QUICK_LIMIT_S - elapsed)
    models = dict.fromkeys(each.model for each in sent)
    groups = [[each for each in sent if each.model == model] for model in models]
    return Plan(groups, {"": CONNECTIONS}, SECONDS, ROUNDS, WARM_UP_S, FIRST_WARM_UP_S, onnx_workers=True)


def describe(pythons: Mapping[str, Path], servers: Sequence[Server]) -> dict[str, object]:
    """Describes what the figures are measured on, including the versions of the servers."""
    machine = describe_machine()
    kept = {key: machine[key] for key in ("processor", "cores", "torch", "python", "load")}
    for name, python in pythons.items():
        kept |= environments.versions(python, {server.distribution for server in servers if server.environment == name})
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = make_parser("serving", __doc__, only="servers").parse_args(arguments)
    wrk.require()
    wanted = {server.environment for server in PEER_SERVERS if options.only.search(server.name)}
    wanted |= {environments.COMMON} if options.only.search(torchserves.STOCK) else set()
    pythons, failures = environments.install(sorted(wanted))
    with (
        tempfile.TemporaryDirectory(prefix="opserve-bench-serving-") as temporary,
        shared_region(workloads.REGION_BYTES) as region,
    ):
        return _measure(options, Path(temporary), region, pythons, failures)


def _measure(
    options: argparse.Namespace,
    folder: Path,
    region: SharedMemory,
    pythons: Mapping[str, Path],
    failures: Mapping[str, str],
) -> int:
    begin = time.monotonic()
    print("packing the models", flush=True)
    sent = workloads.prepare(folder, region)
    models = list(dict.fromkeys(each.model for each in sent))
    stores = folder / "stores"
    servers, missing = torchserves.make_torchserves(models, folder, pythons.get(environments.COMMON), stores)
    missing |= {server.name: failures[server.environment] for server in PEER_SERVERS if server.environment in failures}
    servers += [server for server in PEER_SERVERS if server.environment in pythons]
    servers = [server for server in servers if options.only.search(server.name)]
    if not servers:
        raise OpserveError(f"no server's name matches {options.only.pattern}")
    machine = describe(pythons, servers)
    print("\n".join(f"{key}: {value}" for key, value in machine.items()), flush=True)
    ours = [each for each in sent if each.operator == "opserve"]
    rates = {}
    for workload, rate in in_process.measure_rates(stores / "latency", ours, folder / "unpacked", IN_PROCESS_S):
        rates[workload.name] = rate
        print(f"in one process, without a server: {workload.name} {rate:,.1f}/s", flush=True)
    native_rates = {}
    if in_process.PROGRAM.is_file():
        for workload, rate in in_process.measure_native_rates(
            stores / "latency", ours, folder / "unpacked-native", IN_PROCESS_S
        ):
            native_rates[workload.name] = rate
            print(f"in one process of C++, without a server: {workload.name} {rate:,.1f}/s", flush=True)
    plan = make_plan(sent, time.monotonic() - begin, quick=options.quick)
    findings = rounds.run(plan, servers, folder, pythons, partial(print, flush=True))
    findings.failures |= {name: reason for name, reason in missing.items() if options.only.search(name)}
    if not findings.measurements:
        print("nothing measured", file=sys.stderr)
        return 1
    verdicts = goals.judge(findings, native_rates)
    print("\n" + report.tabulate_goals(verdicts))
    pictures: dict[str, Callable[[Path], object]] = {
        "serving.png": partial(plots.plot_rates, findings.measurements, rates)
    }
    if any(plots.has_both_profiles(findings.measurements, workload) for workload in plots.WORKLOADS):
        pictures["serving_profiles.png"] = partial(plots.plot_profiles, findings.measurements)
    write_results(
        options.output,
        "serving",
        title="opserve's server against others",
        introduction=report.introduce(plan),
        machine=machine,
        body=report.describe_findings(findings, verdicts, rates, native_rates),
        figures={"in_process": rates, "in_process_native": native_rates, "goals": [asdict(each) for each in verdicts]}
        | asdict(findings),
        plots=pictures,
    )
    return 0


if __name__ == "__main__":
    run(main)
