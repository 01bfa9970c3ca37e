"""Which worker an archive is packed for, and what it gets for that."""

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from archive.errors import ArchiveError
from archive.native_worker import ENGINES, ONNX_ENGINE, PROGRAM, TORCH_ENGINE, find_worker
from archive.packer.container import Container
from archive.packer.contents import ArchiveContents
from archive.packer.mar_manifest import MAR_MANIFEST_FILE, NATIVE, PYTHON, read_runtime
from archive.packer.pack import pack
from archive.packer.runtime import choose_runtime, find_obstacle
from archive.packer.worker_config import WORKER_CONFIG_FILE, encode_worker_config
from archive.repository import ROOT
from handlers.config import CONFIG_FILE, ModelConfig
from tests.support.packed import files_in


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Path:
    """The folder `cpp` of an environment with a native worker that has all its engines."""
    folder = tmp_path / "ts" / "cpp"
    for name in (PROGRAM, TORCH_ENGINE, ONNX_ENGINE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr("archive.native_worker.worker_folder", lambda: folder)
    return folder


def contents(artifact: Path, hooks: Path | None = None) -> ArchiveContents:
    document = {"opserve": {"artifact": artifact.name, "inputs": [X], "outputs": [X]}}
    return ArchiveContents("mine", document, ModelConfig.parse(document), artifact, (), hooks, None)


X = {"name": "x", "dtype": "float32", "shape": [-1]}
# name, hooks, what the archive lacks for the native worker
CASES = [
    ("a.pt", None, None),
    ("a.onnx", None, None),
    ("a.pt", "hooks.pt", None),
    ("a.pt", "hooks.py", "hooks.py: the native worker runs hooks in TorchScript only; script them, or pack with "),
    (
        "program.pt2",
        None,
        "program.pt2: the native worker runs exported programs only as AOTInductor packages; make one ",
    ),
    ("compiled.pt2", None, None),
    ("junk.pt2", None, "junk.pt2: the native worker runs exported programs only as "),
]


@pytest.mark.parametrize(("artifact", "hooks", "obstacle"), CASES)
def test_the_default_is_the_native_worker_where_it_can_run_the_model(environment, tmp_path, artifact, hooks, obstacle):
    path = tmp_path / artifact
    path.write_bytes(b"junk")
    if path.stem in ("program", "compiled"):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{path.stem}/data/{'models' if path.stem == 'program' else 'aotinductor'}/model/x", b"")
    given = contents(path, tmp_path / hooks if hooks else None)
    assert choose_runtime(given, PYTHON) == PYTHON
    if obstacle is None:
        assert choose_runtime(given) == choose_runtime(given, NATIVE) == NATIVE
    else:
        assert choose_runtime(given) == PYTHON
        with pytest.raises(ArchiveError, match=f"^mine: {re.escape(obstacle)}.*RUNTIME=python$"):
            choose_runtime(given, NATIVE)


@pytest.mark.parametrize(
    ("lacks", "artifact", "hooks"),
    [
        (PROGRAM, "a.onnx", None),
        (ONNX_ENGINE, "a.onnx", None),
        (TORCH_ENGINE, "a.pt", None),
        (TORCH_ENGINE, "a.onnx", "h.pt"),
    ],
)
def test_without_the_worker_or_an_engine_it_needs_the_default_is_python(environment, tmp_path, lacks, artifact, hooks):
    given = contents(tmp_path / artifact, tmp_path / hooks if hooks else None)
    assert choose_runtime(given) == NATIVE
    (environment / lacks).unlink()
    assert choose_runtime(given) == PYTHON
    with pytest.raises(
        ArchiveError, match="which is not built here; `make ext` builds it, or says what it needs; or pack with"
    ):
        choose_runtime(given, NATIVE)


def test_another_runtime_is_not_allowed(environment, tmp_path):
    with pytest.raises(ArchiveError, match="RUNTIME 'java' is not allowed: native or python"):
        choose_runtime(contents(tmp_path / "a.pt"), "java")
    command = [sys.executable, "-m", "archive.pack", "scaled_add", "--runtime", "java", "--model-store", str(tmp_path)]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (failed.returncode, "invalid choice: 'java'" in failed.stderr) == (2, True)


@pytest.mark.parametrize("name", ["scaled_add", "karate", "karate_onnx", "digits", "digits_onnx"])
def test_the_shipped_models_need_no_python(environment, name):
    assert find_obstacle(ArchiveContents.from_model(name)) is None


def test_an_archive_has_its_configuration_for_both_workers(tmp_path):
    path, _ = pack(ArchiveContents.from_model("karate", profile="latency"), tmp_path, runtime=PYTHON)
    files = files_in(path)
    assert json.loads(files[MAR_MANIFEST_FILE])["runtime"] == "python"
    section = json.loads(files[WORKER_CONFIG_FILE])
    config = ModelConfig.parse(yaml.safe_load(files[CONFIG_FILE]))
    assert section.keys() == set(ModelConfig.__dataclass_fields__)
    assert section["threads"] == "auto"  # the machine that serves decides
    assert section["inputs"][2] == {"name": "value", "dtype": "float32", "shape": [-1], "optional": True, "minimum": 0}
    assert section["inputs"][3] == {
        "name": "x",
        "dtype": "float32",
        "shape": [-1, 34],
        "optional": False,
        "minimum": None,
    }
    # Read again as YAML, which JSON is, it is the same configuration.
    inputs = [{key: value for key, value in each.items() if value is not None} for each in section["inputs"]]
    outputs = [{key: each[key] for key in ("name", "dtype", "shape")} for each in section["outputs"]]
    of_format = {"graph_optimization", "provider_options"}
    again = {key: value for key, value in section.items() if key not in of_format}
    assert ModelConfig.parse({"opserve": again | {"inputs": inputs, "outputs": outputs}}) == config


def test_the_configuration_for_the_worker_has_every_default():
    document = {
        "opserve": {"artifact": "a.onnx", "inputs": [X], "outputs": [X], "provider_options": {"a": 1, "b": "c"}}
    }
    config = ModelConfig.parse(document)
    section = json.loads(encode_worker_config(document, config))
    assert section["threads"] == 1 and section["provider_options"] == {"a": 1, "b": "c"}
    assert section["op_libraries"] == [] and section["profile"] is None and section["tolerance"] == config.tolerance
    assert section["max_response_bytes"] == config.max_response_bytes and section["warm_up"] is True


def test_the_manifest_names_the_worker(tmp_path, monkeypatch):
    """Whatever the trial says: the worker may not be built here."""
    monkeypatch.setattr("archive.packer.pack.choose_runtime", lambda contents, wanted: wanted)
    monkeypatch.setattr("archive.packer.pack.try_sample", lambda *arguments: None)
    given = replace(ArchiveContents.from_model("scaled_add"), name="mine")
    for runtime, name in ((NATIVE, "LSP"), (PYTHON, "python")):
        path, manifest = pack(given, tmp_path, runtime=runtime)
        document = json.loads(files_in(path)[MAR_MANIFEST_FILE])
        assert (document["runtime"], document["model"]["handler"]) == (name, "opserve_handler.py")
        with Container(path) as container:
            assert read_runtime(container) == runtime
        assert {"handlers/model.py", "opserve_handler.py", WORKER_CONFIG_FILE} <= manifest.files.keys()


@pytest.mark.skipif(find_worker(*ENGINES) is None, reason="the native worker is not built here")
@pytest.mark.parametrize("name", ["scaled_add", "karate_onnx", "digits"])
def test_the_native_worker_answers_the_samples_of_shipped_models(tmp_path, name):
    path, _ = pack(ArchiveContents.from_model(name), tmp_path)
    with Container(path) as container:
        assert read_runtime(container) == NATIVE
