"""The harness of the operator benchmarks: one operator against what a user would pick instead.

A module of `benchmarks/ops` describes its measurements by a function

    def contests(quick: bool) -> Iterator[Contest]

It may also have `set_threads(threads: int)`, for a peer with a pool of threads of its own. Everything in one contest is
measured in turns, so that whatever else the machine does falls on all alike. Each turn repeats a call until it takes
long enough to be timed well; the figure is the median of the turns. A form of the peer that is far from its best one
already in the warm-up takes no turns. Before timing, every peer's result is compared with ours: a contest between
different computations says nothing.
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import opserve_ops

TURN_SECONDS = 400e-6
WARM_UP_SECONDS = 30e-3
MIN_TURNS = 20
# More turns where they cost little: a median of many is steadier.
CONTEST_SECONDS = 0.25
MAX_TURNS = 200
# A form that takes this many times as long as the best one will not overtake it.
HOPELESS = 3.0

TIMES = "\N{MULTIPLICATION SIGN}"

Call = Callable[[], object]


@dataclass(frozen=True)
class Clocked:
    """A call that cannot be timed from outside, such as a program that is started and takes its own time.

    Args:
        call: computes the result, for the comparison.
        seconds: what one call takes, measured with the number of threads given.
    """

    call: Call
    seconds: Callable[[int], float]

    def __call__(self) -> object:
        return self.call()


@dataclass(frozen=True)
class Contest:
    """One line of the table.

    Args:
        op: the operator, for the table.
        against: the peers as a group, for the table. Op and against together make a goal's group.
        case: sizes, as short as can be.
        ours: computes the result with opserve.
        peers: the forms of the peer by name; the fastest of them is compared with.
        goal: peer's time divided by ours, wanted as the geometric mean of the group; none to measure only.
        floor: the same, wanted in each line; none where only the mean has a goal.
        threads: the numbers of threads to measure with.
        tolerance: how far results may lie apart, relative to the largest element of ours; none to not compare.
        work: floating-point operations, or bytes, of one call; 0 where unknown. `work_unit` says which.
        share: how much of our work the peer does; its time counts for the whole.
        gradients: whether they are recorded; without, everything runs as it is served, in inference_mode.
    """

    op: str
    against: str
    case: str
    ours: Call
    peers: Mapping[str, Call]
    goal: float | None
    floor: float | None = None
    threads: Sequence[int] = (1, 2)
    tolerance: float | None = 1e-4
    work: float = 0.0
    work_unit: str = "flop"
    share: float = 1.0
    gradients: bool = False


@dataclass(frozen=True)
class Line:
    op: str
    against: str
    case: str
    threads: int
    ours_us: float
    # The fastest form of the peer, and every form.
    peer: str
    peer_us: float
    forms_us: dict[str, float]
    ratio: float
    goal: float | None
    floor: float | None
    turns: int
    work: float
    work_unit: str


def _tensors(result: object) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, (tuple, list)):
        return [tensor for item in result for tensor in _tensors(item)]
    return [torch.as_tensor(result)]


def _expect_same(contest: Contest) -> None:
    """Raises ValueError where a peer does not compute what we do."""
    if contest.tolerance is None:
        return
    ours = _tensors(contest.ours())
    for name, call in contest.peers.items():
        theirs = _tensors(call())
        if len(theirs) != len(ours):
            raise ValueError(f"{contest.op} {contest.case}: {name} gives {len(theirs)} results, ours {len(ours)}")
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if a.numel() != b.numel():
                raise ValueError(f"{contest.op} {contest.case}: {name}: result {i} has another size")
            if a.numel() == 0:
                continue
            got, expected = (tensor.detach().double().flatten() for tensor in (a, b))
            apart = (got - expected).abs().max().item() / max(got.abs().max().item(), 1e-30)
            if not apart <= contest.tolerance:
                raise ValueError(f"{contest.op} {contest.case}: {name}: result {i} is {apart:.1e} apart from ours")


def _seconds(call: Call, repeats: int, threads: int) -> float:
    if isinstance(call, Clocked):
        return call.seconds(threads)
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def _warm_up(call: Call, threads: int) -> float:
    """Calls until the clock and the caches have settled; the seconds of the fastest call."""
    fastest, end = math.inf, time.perf_counter() + WARM_UP_SECONDS
    calls = 0
    while calls < 2 or time.perf_counter() < end:
        fastest = min(fastest, _seconds(call, 1, threads))
        calls += 1
    return fastest


def measure(contest: Contest, threads: int, turns: int | None = None) -> Line:
    """Measures one contest, all forms in turns; `turns` overrides how many."""
    forms: dict[str, Call] = {"opserve": contest.ours, **contest.peers}
    fastest = {name: _warm_up(call, threads) for name, call in forms.items()}
    limit = HOPELESS * min(fastest[name] for name in contest.peers)
    order = [name for name in forms if name not in contest.peers or fastest[name] <= limit]
    repeats = {name: max(1, math.ceil(TURN_SECONDS / fastest[name])) for name in order}
    samples: dict[str, list[float]] = {name: [] for name in order}
    begin = time.perf_counter()
    done = 0
    while done < (turns or MIN_TURNS) or (
        turns is None and done < MAX_TURNS and time.perf_counter() - begin < CONTEST_SECONDS
    ):
        # Who goes first changes: what one leaves in the caches is the next one's.
        for name in order[done % len(order) :] + order[: done % len(order)]:
            samples[name].append(_seconds(forms[name], repeats[name], threads))
        done += 1
    medians = {name: statistics.median(taken) * 1e6 for name, taken in samples.items()}
    ours = medians.pop("opserve")
    medians = {name: taken / contest.share for name, taken in medians.items()}
    peer = min(medians, key=medians.__getitem__)
    return Line(
        op=contest.op,
        against=contest.against,
        case=contest.case,
        threads=threads,
        ours_us=ours,
        peer=peer,
        peer_us=medians[peer],
        forms_us=medians,
        ratio=medians[peer] / ours,
        goal=contest.goal,
        floor=contest.floor,
        turns=done,
        work=contest.work,
        work_unit=contest.work_unit,
    )


def run(
    contests: Iterable[Contest],
    set_threads: Callable[[int], None] | None = None,
    turns: int | None = None,
) -> Iterator[Line]:
    """Measures contests one after the other, each with every number of threads it asks for."""
    before = torch.get_num_threads()
    try:
        for contest in contests:
            with torch.inference_mode(not contest.gradients):
                _expect_same(contest)
            for threads in contest.threads:
                torch.set_num_threads(threads)
                if set_threads is not None:
                    set_threads(threads)
                with torch.inference_mode(not contest.gradients):
                    line = measure(contest, threads, turns)
                yield line
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            processor = names[0].split(":", 1)[1].strip()
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "cpu_capability": opserve_ops.cpu_capability(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "python": platform.python_version(),
        # Anything near the number of cores means that the machine was busy with something else as well.
        "load": round(os.getloadavg()[0], 2),
    }


def geometric_mean(values: Iterable[float]) -> float:
    return statistics.geometric_mean(list(values))


def _duration(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.1f} µs" if microseconds < 100 else f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.2f} ms"


def _rate(line: Line) -> str:
    if not line.work:
        return ""
    return f"{line.work / line.ours_us / 1000:.1f} {'GFLOP/s' if line.work_unit == 'flop' else 'GB/s'}"


def format_line(line: Line) -> str:
    threads = f"{line.threads} thread" + ("s" if line.threads > 1 else "")
    return (
        f"{line.op:29} {line.case:34} {threads:9} {_duration(line.ours_us):>9} vs {_duration(line.peer_us):>9} "
        f"{line.ratio:6.2f}x {_rate(line):>14}  {line.peer}"
    )


def groups(lines: Sequence[Line]) -> dict[tuple[str, str, int], list[Line]]:
    """By operator, peer and number of threads, in the order measured."""
    found: dict[tuple[str, str, int], list[Line]] = {}
    for line in lines:
        found.setdefault((line.op, line.against, line.threads), []).append(line)
    return found


def _verdict(members: Sequence[Line]) -> str:
    goal, floor = members[0].goal, members[0].floor
    if goal is None:
        return ""
    if geometric_mean(line.ratio for line in members) < goal:
        return "missed"
    if floor is not None and min(line.ratio for line in members) < floor:
        return "missed in places"
    return "met"


def summary(lines: Sequence[Line]) -> str:
    """A Markdown table: one row per operator, peer and number of threads."""
    rows = [
        "| operator | against | threads | ratio: geometric mean (least to most) | goal | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (op, against, threads), members in groups(lines).items():
        ratios = [line.ratio for line in members]
        goal = "" if members[0].goal is None else f"≥ {members[0].goal:.2g}{TIMES}"
        if members[0].floor is not None:
            goal += f", nowhere < {members[0].floor:g}{TIMES}"
        rows.append(
            f"| `{op}` | {against} | {threads} | {geometric_mean(ratios):.2f}{TIMES} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) | {goal} | {_verdict(members)} |"
        )
    return "\n".join(rows)


def details(lines: Sequence[Line]) -> str:
    """A Markdown table: one row per measurement."""
    rows = [
        "| operator | against | case | threads | opserve | the peer's best | its form | ratio | rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| `{line.op}` | {line.against} | {line.case} | {line.threads} | {_duration(line.ours_us)} | "
        f"{_duration(line.peer_us)} | {line.peer} | {line.ratio:.2f}{TIMES} | {_rate(line)} |"
        for line in lines
    ]
    return "\n".join(rows)


def markdown(lines: Sequence[Line], description: Mapping[str, object]) -> str:
    about = ", ".join(f"{key} {value}" for key, value in description.items())
    return (
        "# Operators against their peers\n\n"
        "Written by `make bench-ops`; docs/performance.md says how to read it. Ratio: the time of the peer's best form "
        f"divided by ours, medians of at least {min(line.turns for line in lines)} turns, taken alternately.\n\n"
        f"{about}.\n\n![Ratios](ops_benchmark.png)\n\n{summary(lines)}\n\n## Every measurement\n\n{details(lines)}\n"
    )


def plot(lines: Sequence[Line], path: Path) -> None:
    """Each measurement's ratio as a dot, a row for each operator and peer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys((line.op, line.against) for line in lines))
    threads = sorted({line.threads for line in lines})
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.6 * len(names)), layout="constrained")
    colours = plt.colormaps["viridis"]
    for place, count in enumerate(threads):
        colour = colours(0.15 + 0.6 * place / max(1, len(threads) - 1))
        shift = (place - (len(threads) - 1) / 2) * 0.28
        axes.plot([], [], "o", color=colour, ms=5, label=f"{count} thread" + ("s" if count > 1 else ""))
        for row, (op, against) in enumerate(names):
            ratios = [line.ratio for line in lines if (line.op, line.against, line.threads) == (op, against, count)]
            if not ratios:
                continue
            axes.plot(ratios, [row + shift] * len(ratios), "o", color=colour, alpha=0.35, ms=5)
            axes.plot([geometric_mean(ratios)], [row + shift], "|", color=colour, ms=16, mew=2.5)
    for row, (op, against) in enumerate(names):
        goal = next(line.goal for line in lines if (line.op, line.against) == (op, against))
        if goal is not None:
            axes.plot([goal, goal], [row - 0.4, row + 0.4], "--", color="tab:red", lw=1.2)
    axes.plot([], [], "--", color="tab:red", lw=1.2, label="goal")
    axes.axvline(1.0, color="grey", lw=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter(f"%g{TIMES}"))
    axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    low, high = axes.get_xlim()
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low <= t <= high]
    axes.set_xticks(ticks)
    axes.set_yticks(range(len(names)), [f"{op}\nvs {against}" for op, against in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("times as fast as the peer's best form (bar: geometric mean)")
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def write(lines: Sequence[Line], description: Mapping[str, object], folder: Path) -> list[Path]:
    """Writes ops_benchmark.json, .md and .png; the paths written. `description` is of the machine before the run."""
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "ops_benchmark.json"
    results.write_text(
        json.dumps({"machine": description, "lines": [asdict(line) for line in lines]}, indent=1, ensure_ascii=False)
        + "\n"
    )
    page = folder / "ops_benchmark.md"
    page.write_text(markdown(lines, description))
    picture = folder / "ops_benchmark.png"
    plot(lines, picture)
    return [results, page, picture]
