"""Exports `scaled_add`: `python -m archive.scaled_add.build --output build/models/scaled_add`."""

from pathlib import Path

import opserve_ops  # noqa: F401  registers the operator
from archive.building.export import save_torchscript
from archive.building.output import run_build, write_sample
from archive.scaled_add.model import ScaledAdd


def build(folder: Path) -> None:
    """Writes `scaled_add.pt` and `sample/` into `folder`."""
    save_torchscript(ScaledAdd(), folder / "scaled_add.pt")
    write_sample(folder / "sample", {"x": [1.0, 2.0, 3.0], "y": [0.5, 0.25, -6.0]}, {"z": [2.5, 4.25, 0.0]})
    print("scaled_add: exported")


if __name__ == "__main__":
    run_build(build)
