"""Runs a benchmark that consists of comparisons."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Protocol

from benchmarks.common import report
from benchmarks.common.command import describe_machine, make_parser, write_results
from benchmarks.common.comparison import Comparison, compare

QUICK_ROUNDS = 5


class Comparisons(Protocol):
    """A function that generates the comparisons of one group."""

    def __call__(self, *, quick: bool) -> Iterator[Comparison]:
        """Generates all comparisons, or only a few small ones."""


def run_comparisons(
    name: str,
    description: str,
    title: str,
    groups: Mapping[str, Comparisons],
    arguments: Sequence[str] | None = None,
    *,
    rounds: int | None = None,
    describe: Callable[[], dict[str, object]] = describe_machine,
) -> int:
    """Runs the benchmark `name` and returns its exit status.

    Args:
        name: Its package.
        description: What it measures, and in which units.
        title: The heading of its page.
        groups: What generates its comparisons, by the name that `--only` selects.
        arguments: Of the command line.
        rounds: How often each form has its turn; by default as often as its speed asks for.
        describe: Describes the machine; raises OpserveError if the benchmark cannot run on it.
    """
    options = make_parser(name, description, only=f"groups ({', '.join(groups)})").parse_args(arguments)
    chosen = [group for key, group in groups.items() if options.only.search(key)]
    machine = describe()
    for key, value in machine.items():
        print(f"{key}: {value}")
    # Generated once only to be counted: the data of all of them would not fit into memory.
    total = sum(len(each.threads) for group in chosen for each in group(quick=options.quick))
    measurements = []
    for group in chosen:
        for measurement in compare(group(quick=options.quick), QUICK_ROUNDS if options.quick else rounds):
            measurements.append(measurement)
            print(f"{len(measurements):3} of {total}  {report.format_measurement(measurement)}", flush=True)
    if not measurements:
        print("nothing measured", file=sys.stderr)
        return 1
    summary = report.summarize(measurements)
    print(f"\n{summary}")
    fewest = min(each.rounds for each in measurements)
    write_results(
        options.output,
        name,
        title=title,
        introduction="Ratio: the time of the baseline's fastest form divided by ours; medians of at least "
        f"{fewest} turns each, taken alternately.",
        machine=machine,
        body=f"![Ratios]({name}.png)\n\n{summary}\n\n## Every measurement\n\n{report.list_all(measurements)}",
        figures={"measurements": [asdict(each) for each in measurements]},
        plots={f"{name}.png": partial(report.plot, measurements)},
    )
    return 0
