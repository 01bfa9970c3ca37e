"""Exports the weights of `karate` to ONNX: `python -m archive.karate.build_onnx --output build/models/karate_onnx`."""

import shutil
from pathlib import Path

import torch

import opserve_ops  # noqa: F401  registers the operators of the model
from archive.building.export import export_onnx
from archive.building.output import built_model, run_build
from archive.karate.graph import load_karate_graph
from archive.karate.model import Communities
from archive.karate.train import model_inputs


def build(folder: Path) -> None:
    """Writes `karate.onnx` and the sample of `karate` into `folder`.

    Raises:
        BuildError: `karate` has not been trained.
    """
    trained = built_model("karate")
    graph = load_karate_graph()
    model = Communities(graph.features.shape[1], graph.classes)
    model.load_state_dict(torch.load(trained / "weights.pt", weights_only=True))
    names = ("rowptr", "col", "value", "x")
    export_onnx(
        model.eval(),
        dict(zip(names, model_inputs(graph), strict=True)),
        outputs=("label", "probabilities"),
        dynamic={"rowptr": {0: "rows"}, "col": {0: "edges"}, "value": {0: "edges"}, "x": {0: "nodes"}},
        path=folder / "karate.onnx",
    )
    shutil.copytree(trained / "sample", folder / "sample")
    print("karate_onnx: exported the weights of karate")


if __name__ == "__main__":
    run_build(build)
