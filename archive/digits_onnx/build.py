"""Exports `digits` to ONNX: `python -m archive.digits_onnx.build --output build/models/digits_onnx`."""

import shutil
from pathlib import Path

import torch

import opserve_ops  # noqa: F401  registers the operators the model is made of
from archive.digits.model import DigitReader
from archive.packer.contents import BUILD
from archive.packer.export import export_onnx
from archive.packer.output import BuildError, output_folder

DIGITS = BUILD / "models" / "digits"


def build(folder: Path) -> None:
    """Writes `digits.onnx` and the sample of `digits` into `folder`.

    Raises:
        BuildError: `digits` has not been trained.
    """
    if not (DIGITS / "weights.pt").is_file():
        raise BuildError(f"{DIGITS / 'weights.pt'} does not exist; make archive MODEL=digits")
    model = DigitReader()
    model.load_state_dict(torch.load(DIGITS / "weights.pt", weights_only=True))
    image = torch.zeros(2, 40, 50)
    corners = torch.tensor([[[5.0, 5.0], [30.0, 5.0], [30.0, 30.0], [5.0, 30.0]]]).repeat(2, 1, 1)
    export_onnx(
        model.eval(),
        {"image": image, "corners": corners},
        outputs=("label", "probabilities"),
        dynamic={"image": {0: "batch", 1: "height", 2: "width"}, "corners": {0: "batch"}},
        path=folder / "digits.onnx",
    )
    shutil.copytree(DIGITS / "sample", folder / "sample")
    print("digits_onnx: exported the weights of digits")


if __name__ == "__main__":
    with output_folder("Exports digits to ONNX.") as folder:
        build(folder)
