"""What a profile trades: a picture of opserve's two for a small, a middling and a large request."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.rounds import Cell
from benchmarks.serving.torchserves import OPSERVE

PANELS = (("rate", "requests a second"), ("p50_ms", "median, ms"), ("p99_ms", "99th percentile, ms"))
# A workload a row: what a request is small, middling and large for.
WORKLOADS = ("scaled_add json", "digits form", "graph npz")


def plot(cells: Sequence[Cell], path: Path) -> bool:
    """Draw rate and latency by connections, a line for each profile; whether there was anything to draw."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ours = [cell for cell in cells if cell.server in OPSERVE.values() and cell.rate > 0]
    rows = [name for name in WORKLOADS if len({cell.server for cell in ours if cell.workload == name}) == len(OPSERVE)]
    if not rows:
        return False
    figure, panels = plt.subplots(
        len(rows), len(PANELS), figsize=(9, 0.6 + 2.1 * len(rows)), layout="constrained", squeeze=False
    )
    for line, workload in zip(panels, rows, strict=True):
        for axes, (attribute, label) in zip(line, PANELS, strict=True):
            for (profile, server), style in zip(OPSERVE.items(), ("o-", "s--"), strict=True):
                found = sorted(
                    (cell for cell in ours if (cell.server, cell.workload) == (server, workload)),
                    key=lambda cell: cell.connections,
                )
                counts = [str(cell.connections) for cell in found]
                axes.plot(counts, [getattr(cell, attribute) for cell in found], style, label=profile, ms=4)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.set_title(f"{workload}: {label}", fontsize=8, loc="left")
            axes.tick_params(labelsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("connections", fontsize=8)
    panels[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return True
