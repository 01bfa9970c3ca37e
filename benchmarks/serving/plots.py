"""The plots of the serving benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common.plots import load_pyplot, save
from benchmarks.serving.rounds import Measurement
from benchmarks.serving.torchserves import NATIVE, OPSERVE

PANELS = (("rate", "requests per second"), ("p50_ms", "median, ms"), ("p99_ms", "99th percentile, ms"))
# A small, a medium and a large request.
WORKLOADS = ("scaled_add json", "digits form", "graph npz")


def plot_rates(measurements: Sequence[Measurement], in_process: Mapping[str, float], path: Path) -> None:
    """Draws the rate of every server by number of connections, in a panel for each workload."""
    plt = load_pyplot()
    workloads = list(dict.fromkeys(each.workload for each in measurements))
    counts = sorted({each.connections for each in measurements})
    colours = plt.colormaps["viridis"]
    shade = {count: colours(0.1 + 0.7 * place / max(1, len(counts) - 1)) for place, count in enumerate(counts)}
    rows = [len({(m.server, m.operator) for m in measurements if m.workload == workload}) for workload in workloads]
    figure, panels = plt.subplots(
        len(workloads),
        1,
        figsize=(9, 1 + sum(0.42 * n + 0.9 for n in rows)),
        layout="constrained",
        squeeze=False,
        height_ratios=[n + 2 for n in rows],
    )
    for axes, workload in zip(panels[:, 0], workloads, strict=True):
        shown = [each for each in measurements if each.workload == workload]
        best: dict[tuple[str, str], float] = {}
        for each in shown:
            key = each.server, each.operator
            best[key] = max(best.get(key, 0.0), each.rate)
        order = sorted(best, key=best.__getitem__)
        for each in shown:
            offset = (counts.index(each.connections) - (len(counts) - 1) / 2) * 0.27
            row = order.index((each.server, each.operator)) + offset
            axes.barh(row, each.rate, height=0.25, color=shade[each.connections])
        labels = [f"{server} ({operator})" if workload.startswith("graph") else server for server, operator in order]
        axes.set_yticks(range(len(order)), labels, fontsize=8)
        if workload in in_process:
            axes.axvline(in_process[workload], color="tab:red", ls="--", lw=1)
        axes.set_title(workload, fontsize=9, loc="left")
        axes.grid(axis="x", alpha=0.3)
    handles = [plt.Rectangle((0, 0), 1, 1, color=shade[count]) for count in counts]
    names = [f"{count} connection{'s' if count > 1 else ''}" for count in counts]
    if in_process:
        handles.append(plt.Line2D([], [], color="tab:red", ls="--", lw=1))
        names.append("in one process, without a server")
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
    panels[-1, 0].set_xlabel("requests per second")
    save(figure, path)


def has_both_profiles(measurements: Sequence[Measurement], workload: str) -> bool:
    """Whether one of opserve's workers was measured with both profiles."""
    servers = {m.server for m in measurements if m.workload == workload and m.rate > 0}
    return any(servers >= set(names.values()) for names in (NATIVE, OPSERVE))


def plot_profiles(measurements: Sequence[Measurement], path: Path) -> None:
    """Draws rate and latency by number of connections, a line for each of opserve's workers and profiles."""
    plt = load_pyplot()
    rows = [workload for workload in WORKLOADS if has_both_profiles(measurements, workload)]
    size = (9, 0.6 + 2.1 * len(rows))
    figure, panels = plt.subplots(len(rows), len(PANELS), figsize=size, layout="constrained", squeeze=False)
    for line, workload in zip(panels, rows, strict=True):
        for axes, (attribute, label) in zip(line, PANELS, strict=True):
            for server, style in zip((*NATIVE.values(), *OPSERVE.values()), ("o-", "s--", "^-", "v--"), strict=True):
                shown = [m for m in measurements if (m.server, m.workload) == (server, workload) and m.rate > 0]
                shown.sort(key=lambda each: each.connections)
                if not shown:
                    continue
                counts = [str(each.connections) for each in shown]
                axes.plot(counts, [getattr(each, attribute) for each in shown], style, label=server, ms=4)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.set_title(f"{workload}: {label}", fontsize=8, loc="left")
            axes.tick_params(labelsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("connections", fontsize=8)
    panels[0, 0].legend(fontsize=8)
    save(figure, path)
