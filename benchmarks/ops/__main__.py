"""`python -m benchmarks.ops`: measures every operator against its peers."""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from benchmarks import ops, ops_bench

QUICK_TURNS = 5
# Processes that want to run, on average over the last minute.
BUSY = 0.5


def main() -> int:
    names = sorted(module.name for module in pkgutil.iter_modules(ops.__path__) if not module.name.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"few sizes, {QUICK_TURNS} turns: to see that it works")
    parser.add_argument("--op", action="append", choices=names, metavar="NAME", help=f"only this: {', '.join(names)}")
    parser.add_argument("--output", type=Path, help="folder for ops_benchmark.json, .md and .png")
    arguments = parser.parse_args()

    description = ops_bench.machine()
    for key, value in description.items():
        print(f"{key}: {value}")
    if description["load"] > BUSY:
        print("this machine is, or was just now, busy: figures will be off, those with 2 threads most", file=sys.stderr)
    modules = [importlib.import_module(f"benchmarks.ops.{name}") for name in arguments.op or names]
    # Made once only to be counted: the data of all would not fit into memory.
    total = sum(len(contest.threads) for module in modules for contest in module.contests(arguments.quick))
    lines = []
    for module in modules:
        set_threads = getattr(module, "set_threads", None)
        turns = QUICK_TURNS if arguments.quick else None
        for line in ops_bench.run(module.contests(arguments.quick), set_threads, turns):
            lines.append(line)
            print(f"{len(lines):3} of {total}  {ops_bench.format_line(line)}", flush=True)
    if not lines:
        print("nothing measured", file=sys.stderr)
        return 1
    print("\n" + ops_bench.summary(lines))
    if arguments.output is not None:
        for path in ops_bench.write(lines, description, arguments.output):
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
