"""Compares the native worker's codecs with those in Python over many generated requests: `make fuzz` runs it."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from archive.repository import BUILD
from tests.native.comparison import Counts, Difference, compare_all, processors, repeat
from tests.native.decode_tool import PROGRAM

CASES = 240_000
# Of one process at a time.
SHARE = 2_000


def share(program: Path, seed: int, first: int, count: int) -> tuple[Counts, list[tuple[Path, Difference]]]:
    """Compares a part of the cases, in a process of its own."""
    return compare_all(program, seed, range(first, first + count), BUILD / "native-differences")


def main() -> int:
    """Runs the comparison; returns 1 if there is a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.native", description=__doc__)
    parser.add_argument("--program", type=Path, default=PROGRAM, help="opserve_decode")
    parser.add_argument("--cases", type=int, default=CASES, help="how many requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--repeat", type=Path, help="a file that a difference named: compare only that request")
    options = parser.parse_args()
    if not options.program.is_file():
        print(f"error: {options.program} does not exist; `make ext` builds it", file=sys.stderr)
        return 1
    if options.repeat:
        difference = repeat(options.program, options.repeat)
        print(difference or "no difference")
        return 1 if difference else 0
    end = options.first + options.cases
    starts = range(options.first, end, SHARE)
    total = Counts()
    first: list[tuple[Path, Difference]] = []
    with ProcessPoolExecutor(processors()) as pool:
        jobs = [pool.submit(share, options.program, options.seed, start, min(SHARE, end - start)) for start in starts]
        for job in jobs:
            counts, differences = job.result()
            total.add(counts)
            first += differences
    print("\n".join(total.table()))
    for path, difference in first[:20]:
        print(f"\n{path}\n{difference}")
    return 1 if first else 0


if __name__ == "__main__":
    sys.exit(main())
