"""Draws with matplotlib, which is loaded only when something is drawn."""

from pathlib import Path
from typing import Any


def load_pyplot() -> Any:
    """Loads pyplot for drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def save(figure: Any, path: Path) -> None:
    """Saves a figure as a PNG and closes it."""
    figure.savefig(path, dpi=115, metadata={"Software": None})
    load_pyplot().close(figure)
