"""Compares every operator on the CPU with what else computes the same.

The ratio is the other's time divided by ours, so more is better. Times are in µs or ms; the rate is GFLOP/s, or GB/s of
memory that is read and written.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence

from archive.process.command import run
from benchmarks import ops
from benchmarks.common.comparison import Comparison
from benchmarks.common.suite import Comparisons, run_comparisons

GROUPS = sorted({module.name for module in pkgutil.iter_modules(ops.__path__)} - {"__main__", "native"})


def _load_when_called(name: str) -> Comparisons:
    """Delays the import of a module, which may need a compiler or a package that others do not."""

    def comparisons(*, quick: bool) -> Iterator[Comparison]:
        return importlib.import_module(f"{ops.__name__}.{name}").comparisons(quick=quick)

    return comparisons


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    groups = {name: _load_when_called(name) for name in GROUPS}
    return run_comparisons("ops", __doc__, "Operators on a CPU", groups, arguments)


if __name__ == "__main__":
    run(main)
