"""Exports the weights of `digits` to ONNX: `python -m archive.digits.build_onnx --output build/models/digits_onnx`."""

import shutil
from pathlib import Path

import torch

import opserve_ops  # noqa: F401  registers the operators of the model
from archive.building.export import export_onnx
from archive.building.output import built_model, run_build
from archive.digits.model import DigitReader


def build(folder: Path) -> None:
    """Writes `digits.onnx`, and the hooks and the sample of `digits`, into `folder`.

    Raises:
        BuildError: `digits` has not been trained.
    """
    trained = built_model("digits")
    model = DigitReader()
    model.load_state_dict(torch.load(trained / "weights.pt", weights_only=True))
    corners = torch.tensor([[[5.0, 5.0], [30.0, 5.0], [30.0, 30.0], [5.0, 30.0]]]).repeat(2, 1, 1)
    export_onnx(
        model.eval(),
        {"image": torch.zeros(2, 40, 50), "corners": corners},
        outputs=("label", "probabilities"),
        dynamic={"image": {0: "batch", 1: "height", 2: "width"}, "corners": {0: "batch"}},
        path=folder / "digits.onnx",
    )
    shutil.copy(trained / "hooks.pt", folder)
    shutil.copytree(trained / "sample", folder / "sample")
    print("digits_onnx: exported the weights of digits")


if __name__ == "__main__":
    run_build(build)
