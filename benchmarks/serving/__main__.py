"""`python -m benchmarks.serving`: measures opserve's server and its peers side by side."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from archive.errors import OpserveError
from archive.process.command import run
from benchmarks import ops_bench
from benchmarks.payloads import shared_region
from benchmarks.serving import environments, goals, limit, report, rounds, torchserves, workloads
from benchmarks.serving.rounds import Plan
from benchmarks.serving.servers import PEER_SERVERS, Server
from benchmarks.serving.workloads import Workload
from scripts.load import wrk as loadtest_wrk

CONNECTIONS = (1, 8, 32)
SECONDS, ROUNDS = 2, 2
# A server that compiles while it runs, as Java does, is asked for a while before it is timed for the first time.
FIRST_WARM_UP_S, WARM_UP_S = 6, 1
# QUICK=1 ends in 3 minutes: a server that has not had its turn by then is left out, and said to be.
QUICK_LIMIT_S = 130
LIMIT_S = 0.5


def plan_of(sent: Sequence[Workload], quick: bool, elapsed: float = 0.0) -> Plan:
    """Everything; or once, shortly, and the workloads that the goals name. `elapsed` seconds have gone already."""
    if quick:
        names = (goals.TINY, goals.DIGITS, goals.GRAPH_NPZ, goals.GRAPH_SHARED)
        chosen = [
            each for each in sent if each.name in names or (each.name, each.operator) == (goals.GRAPH_JSON, "opserve")
        ]
        return Plan([chosen], {"": (8,), goals.TINY: CONNECTIONS}, 1, 1, limit_s=QUICK_LIMIT_S - elapsed)
    models = dict.fromkeys(each.model for each in sent)
    groups = [[each for each in sent if each.model == model] for model in models]
    return Plan(groups, {"": CONNECTIONS}, SECONDS, ROUNDS, WARM_UP_S, FIRST_WARM_UP_S)


def machine(pythons: Mapping[str, Path], servers: Sequence[Server]) -> dict[str, object]:
    """What the figures were measured on."""
    found = ops_bench.machine()
    kept = {key: found[key] for key in ("processor", "cores", "torch", "python", "load")}
    for name, python in pythons.items():
        kept |= environments.versions(python, {server.distribution for server in servers if server.environment == name})
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in 3 minutes: one round, few workloads")
    parser.add_argument("--server", action="append", metavar="NAME", help="only servers whose name begins so")
    parser.add_argument("--output", type=Path, help="folder for serving_benchmark.json, .md and .png")
    arguments = parser.parse_args()
    loadtest_wrk.require()
    # Ended from outside, it ends its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = {server.environment for server in PEER_SERVERS} | {environments.COMMON}
    pythons, failed = environments.make(sorted(wanted))
    with (
        tempfile.TemporaryDirectory(prefix="opserve-bench-serving-") as temporary,
        shared_region(workloads.REGION_BYTES) as region,
    ):
        return _measure(arguments, Path(temporary), region, pythons, failed)


def _measure(
    arguments: argparse.Namespace,
    folder: Path,
    region: SharedMemory,
    pythons: Mapping[str, Path],
    failed: Mapping[str, str],
) -> int:
    begun = time.monotonic()
    print("packing the models", flush=True)
    sent = workloads.prepare(folder, region)
    models = list(dict.fromkeys(each.model for each in sent))
    stores = folder / "stores"
    servers, missing = torchserves.torchserves(models, folder, pythons.get(environments.COMMON), stores)
    missing |= {server.name: failed[server.environment] for server in PEER_SERVERS if server.environment in failed}
    servers += [server for server in PEER_SERVERS if server.environment in pythons]
    if arguments.server:
        servers = [server for server in servers if server.name.startswith(tuple(arguments.server))]
        if not servers:
            raise OpserveError(f"no server's name begins with {' or '.join(arguments.server)}")
    description = machine(pythons, servers)
    print("\n".join(f"{key}: {value}" for key, value in description.items()), flush=True)
    chosen = [each for each in sent if each.operator == "opserve"]
    limits = {}
    for workload, rate in limit.rates(stores / "latency", chosen, folder / "unpacked", LIMIT_S):
        limits[workload.name] = rate
        print(f"in one process, no server: {workload.name} {rate:,.1f}/s", flush=True)
    plan = plan_of(sent, arguments.quick, time.monotonic() - begun)
    findings = rounds.run(plan, servers, folder, pythons, lambda line: print(line, flush=True))
    findings.failures = missing | findings.failures
    if not findings.cells:
        print("nothing measured", file=sys.stderr)
        return 1
    verdicts = goals.verdicts(findings)
    print("\n" + report.goals_table(verdicts))
    if arguments.output is not None:
        for path in report.write(findings, verdicts, limits, description, plan, arguments.output):
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    run(main)
