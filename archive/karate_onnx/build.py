"""Exports `karate` to ONNX: `python -m archive.karate_onnx.build --output build/models/karate_onnx`."""

import shutil
from pathlib import Path

import torch

import opserve_ops  # noqa: F401  registers the operators the model is made of
from archive.karate.club import load_club
from archive.karate.model import Communities
from archive.karate.train import model_inputs
from archive.packer.contents import BUILD
from archive.packer.export import export_onnx
from archive.packer.output import BuildError, output_folder

KARATE = BUILD / "models" / "karate"


def build(folder: Path) -> None:
    """Writes `karate.onnx` and the sample of `karate` into `folder`.

    Raises:
        BuildError: `karate` has not been trained.
    """
    if not (KARATE / "weights.pt").is_file():
        raise BuildError(f"{KARATE / 'weights.pt'} does not exist; make archive MODEL=karate")
    club = load_club()
    model = Communities(club.features.shape[1], int(club.label.max()) + 1)
    model.load_state_dict(torch.load(KARATE / "weights.pt", weights_only=True))
    names = ("rowptr", "col", "value", "x")
    export_onnx(
        model.eval(),
        dict(zip(names, model_inputs(club), strict=True)),
        outputs=("label", "probabilities"),
        dynamic={"rowptr": {0: "rows"}, "col": {0: "edges"}, "value": {0: "edges"}, "x": {0: "nodes"}},
        path=folder / "karate.onnx",
    )
    shutil.copytree(KARATE / "sample", folder / "sample")
    print("karate_onnx: exported the weights of karate")


if __name__ == "__main__":
    with output_folder("Exports karate to ONNX.") as folder:
        build(folder)
