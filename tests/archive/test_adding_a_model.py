"""A model added with `make new-model`, and changed by following archive/README.md and nothing else."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from archive.building.new_model import write_new_model
from archive.errors import OpserveError
from archive.native_worker import find_worker
from archive.repository import ROOT

BUILD_ONNX = """
import shutil

import torch

from archive.building.export import export_onnx
from archive.building.output import built_model, run_build
from archive.mine.build import train


def build(folder):
    shutil.copytree(built_model("mine") / "sample", folder / "sample")
    x = torch.zeros(2, 3)
    export_onnx(train(), {"x": x}, outputs=("y",), dynamic={"x": {0: "batch"}}, path=folder / "mine.onnx")


run_build(build)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What packing needs of the project."""
    folder = tmp_path_factory.mktemp("project") / "opserve"
    for part in ("archive", "handlers", "scripts", "extensions/opserve_ops", "build/lib"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def readme_block(language: str, text: str) -> str:
    """The README's block in a language that contains a text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "archive" / "README.md").read_text(), re.M | re.S)
    (found,) = (block for block in blocks if text in block)
    return found


def run(project: Path, *command: str) -> str:
    """The output of a Python module of the copied project."""
    environment = os.environ | {"PYTHONPATH": str(project / "extensions")}
    environment.pop("OPSERVE_LIBRARY_DIR", None)
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_model_packs_as_written(project):
    written = run(project, "scripts.new_model", "mine")
    assert written == "archive/mine is written; `make archive MODEL=mine` packs it as it is\n"
    assert sorted(path.name for path in (project / "archive" / "mine").iterdir()) == [
        "__init__.py",
        "build.py",
        "model-config.yaml",
        "model.py",
    ]
    run(project, "archive.mine.build", "--output", "build/models/mine")
    assert run(project, "archive.pack", "mine").startswith("mine 1.0, profile latency, runtime ")
    assert "answers its sample as expected" in run(project, "archive.verify", "model_store/mine.mar")
    for style in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *style, "--config", ROOT / "pyproject.toml", "archive/mine"]
        subprocess.run(command, cwd=project, check=True)


def test_the_readme_is_enough_to_change_it(project):
    folder = project / "archive" / "mine"
    (folder / "hooks.py").write_text(readme_block("python", "def explain"))
    config = (folder / "model-config.yaml").read_text().partition("  profile:")[0]
    profiles = readme_block("yaml", "profiles:").partition("opserve:\n")[2]
    (folder / "model-config.yaml").write_text(f"{config}  hooks: hooks.py\n{profiles}")
    (folder / "model-config.onnx.yaml").write_text(readme_block("yaml", "mine.onnx"))
    (folder / "build_onnx.py").write_text(BUILD_ONNX)
    run(project, "archive.mine.build_onnx", "--output", "build/models/mine_onnx")
    for name in ("mine", "mine_onnx"):
        assert run(project, "archive.pack", name).startswith(f"{name} 1.0, profile throughput, runtime python: ")
        patient = run(project, "archive.pack", name, "--profile", "patient")
        assert patient.startswith(f"{name} 1.0, profile patient, runtime python: ")


def test_the_readme_is_enough_to_give_it_hooks_without_python(project):
    folder = project / "archive" / "mine"
    (folder / "hooks.py").write_text(readme_block("python", "class Hooks"))
    (written,) = re.findall(r"`(save_torchscript\(Hooks.*?)`", (ROOT / "archive" / "README.md").read_text())
    build = (folder / "build.py").read_text()
    build = build.replace("from .model import Model\n", "from .hooks import Hooks\nfrom .model import Model\n")
    (folder / "build.py").write_text(build.replace("    x = torch.tensor(", f"    {written}\n    x = torch.tensor("))
    config = (folder / "model-config.yaml").read_text()
    (folder / "model-config.yaml").write_text(config.replace("hooks: hooks.py", "hooks: hooks.pt"))
    run(project, "archive.mine.build", "--output", "build/models/mine")
    run(project, "archive.pack", "mine")
    for runtime in ("python", *(["native"] if find_worker(".pt") else [])):
        packed = run(project, "archive.pack", "mine", "--runtime", runtime)
        assert packed.startswith(f"mine 1.0, profile throughput, runtime {runtime}: ")
    with zipfile.ZipFile(project / "model_store" / "mine.mar") as archive:
        assert "hooks.pt" in archive.namelist() and "hooks.py" not in archive.namelist()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../mine", "not allowed: lower-case letters"),
        ("", "not allowed"),
        ("Mine", "not allowed"),
        ("2x", "not allowed"),
        ("mine.2", "not allowed"),
        ("class", "not allowed"),
        ("x" * 65, "not allowed"),
        ("digits", "taken: archive/digits exists"),
        ("packer", "taken: archive/packer exists"),
        ("pack", "taken: archive/pack.py exists"),
        ("digits_onnx", "taken: archive/digits/model-config.onnx.yaml exists"),
    ],
)
def test_a_bad_or_taken_name_is_refused(tmp_path, name, reason):
    for path in ("digits/model-config.onnx.yaml", "packer/x.py", "pack.py"):
        (tmp_path / "archive" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "archive" / path).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OpserveError, match=re.escape(f"NAME '{name}' is {reason}")):
        write_new_model(name, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_leaves_nothing_half_written(tmp_path, monkeypatch):
    (tmp_path / "archive").mkdir()

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_new_model("mine", tmp_path)
    assert list((tmp_path / "archive").iterdir()) == []
