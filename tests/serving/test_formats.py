"""The same model over HTTP in every format: TorchScript, ONNX, exported and compiled answer as the eager model does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

import opserve_ops  # noqa: F401
from archive.digits.model import DigitReader
from archive.digits.photos import load_split, photograph, random_corners
from archive.karate.graph import load_karate_graph
from archive.karate.model import Communities
from archive.karate.train import model_inputs
from archive.packer.contents import ArchiveContents
from archive.packer.mar_manifest import NATIVE, PYTHON
from archive.packer.pack import pack
from archive.repository import BUILD
from handlers.config import ModelConfig
from tests.serving.test_models import karate_subgraph

pytestmark = pytest.mark.server

# Absolute, of probabilities: float32 sums in a different order differ by less.
TOLERANCE = 1e-5
Dim = torch.export.Dim


def digits() -> DigitReader:
    return weights(DigitReader(), "digits")


def karate() -> Communities:
    graph = load_karate_graph()
    return weights(Communities(graph.features.shape[1], graph.classes), "karate")


def weights(model: torch.nn.Module, name: str) -> torch.nn.Module:
    model.load_state_dict(torch.load(BUILD / "models" / name / "weights.pt", weights_only=True))
    return model.eval()


def export_digits() -> torch.export.ExportedProgram:
    corners = torch.tensor([[[5.0, 5.0], [30.0, 5.0], [30.0, 30.0], [5.0, 30.0]]]).repeat(2, 1, 1)
    batch = Dim("batch")
    shapes = ({0: batch, 1: Dim("height"), 2: Dim("width")}, {0: batch})
    return torch.export.export(digits(), (torch.zeros(2, 40, 50), corners), dynamic_shapes=shapes)


def export_karate() -> torch.export.ExportedProgram:
    nodes, edges = Dim("nodes"), Dim("edges")
    shapes = ({0: nodes + 1}, {0: edges}, {0: edges}, {0: nodes})
    return torch.export.export(karate(), model_inputs(load_karate_graph()), dynamic_shapes=shapes)


def write_exported(program: torch.export.ExportedProgram, path: Path) -> None:
    torch.export.save(program, path)


def write_compiled(program: torch.export.ExportedProgram, path: Path) -> None:
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))


PROGRAMS = {"digits": export_digits, "karate": export_karate}
WRITERS: dict[str, Callable[[torch.export.ExportedProgram, Path], None]] = {
    "exported": write_exported,
    "compiled": write_compiled,
}
FORMATS = {
    "torchscript": "TorchScript",
    "onnx": "ONNX",
    "exported": "exported program",
    "compiled": "AOTInductor package",
}


def served_name(model: str, kind: str) -> str:
    return {"torchscript": model, "onnx": f"{model}_onnx"}.get(kind, f"{model}_{kind}")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[ArchiveContents]:
    """Both models in the formats that do not ship."""
    folder = tmp_path_factory.mktemp("formats")
    made = []
    for name, export in PROGRAMS.items():
        program, contents = export(), ArchiveContents.from_model(name)
        for kind, write in WRITERS.items():
            artifact = folder / f"{name}_{kind}.pt2"
            write(program, artifact)
            section = contents.document["opserve"] | {"artifact": artifact.name}
            document = contents.document | {"opserve": section}
            config = ModelConfig.parse(document)
            made.append(
                replace(contents, name=served_name(name, kind), document=document, config=config, artifact=artifact)
            )
    return made


@pytest.fixture(scope="module")
def programs(serve, models, runtime, tmp_path_factory):
    """A server of those that this worker can run."""
    folder = tmp_path_factory.mktemp("packed")
    served = [each for each in models if runtime == PYTHON or "exported" not in each.name]
    return serve([pack(each, folder, runtime=runtime)[0] for each in served])


@pytest.fixture(params=FORMATS)
def kind(request, runtime):
    if runtime == NATIVE and request.param == "exported":
        pytest.skip("the native worker runs exported programs once they are compiled")
    return request.param


@pytest.fixture
def server(request, kind):
    """A server that has both models in this format."""
    return request.getfixturevalue("programs" if kind in WRITERS else "shipped")


def test_digits(server, kind):
    generator = torch.Generator().manual_seed(17)
    ink = load_split()[1].ink
    for index, (height, width) in enumerate([(64, 64), (90, 160), (33, 47), (240, 320)]):
        corners = random_corners(1, height, width, generator)
        image = photograph(ink[index : index + 1], corners, height, width, generator).round()
        with torch.inference_mode():
            label, probabilities = digits()(image, corners)
        document = {"image": image[0].int().tolist(), "corners": corners[0].tolist()}
        got = server.predict(served_name("digits", kind), json=document)
        assert got.status_code == 200, got.text
        assert got.json()["label"] == label.item()
        numpy.testing.assert_allclose(got.json()["probabilities"], probabilities[0], rtol=0, atol=TOLERANCE)


def test_karate(server, kind):
    for size in (34, 20, 5, 2, 1):
        graph = karate_subgraph(list(range(size)))
        arrays = {
            "rowptr": numpy.asarray(graph["rowptr"], numpy.int64),
            "col": numpy.asarray(graph["col"], numpy.int64),
            "value": numpy.ones(len(graph["col"]), numpy.float32),
            "x": numpy.asarray(graph["x"], numpy.float32),
        }
        with torch.inference_mode():
            label, probabilities = karate()(*(torch.from_numpy(array) for array in arrays.values()))
        got = server.predict(served_name("karate", kind), json=graph)
        assert got.status_code == 200, got.text
        assert got.json()["label"] == label.tolist()
        numpy.testing.assert_allclose(got.json()["probabilities"], probabilities, rtol=0, atol=TOLERANCE)


def test_each_reports_its_format(server, kind):
    for model in PROGRAMS:
        assert server.describe_by_worker(served_name(model, kind))["format"] == FORMATS[kind]
