"""A model added by following archive/README.md and nothing else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archive.repository import ROOT

MODEL = '''"""Doubles numbers."""

import torch
from torch import nn


class MyModel(nn.Module):
    """y = 2 x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x, y: float32 [n]."""
        return torch.ops.opserve.scaled_add(x, torch.zeros_like(x), 2.0)
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What packing needs of the project, and a folder for the new model."""
    folder = tmp_path / "opserve"
    for part in ("archive", "handlers", "extensions/opserve_ops", "build/lib"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "archive" / "double").mkdir()
    return folder


def shown(language: str, text: str) -> str:
    """The README's block in a language that contains a text, with the name filled in."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "archive" / "README.md").read_text(), re.M | re.S)
    (found,) = (block for block in blocks if text in block)
    return found.replace("NAME", "double")


def run(project: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(project / "extensions"), "OPSERVE_LIBRARY_DIR": ""}
    del environment["OPSERVE_LIBRARY_DIR"]
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_is_enough(project):
    folder = project / "archive" / "double"
    (folder / "__init__.py").write_text('"""`double`: doubles numbers."""\n')
    (folder / "model.py").write_text(MODEL)
    (folder / "build.py").write_text(shown("python", "def build"))
    config = shown("yaml", "artifact") + "  hooks: hooks.py\n"
    (folder / "model-config.yaml").write_text(config)
    (folder / "hooks.py").write_text(shown("python", "def preprocess"))
    run(project, "-m", "archive.double.build", "--output", "build/models/double")
    said = run(project, "-m", "archive.packer.pack", "double")
    assert said.startswith("double 1.0: ")
    assert (project / "model_store" / "double.mar").is_file()
    # Its profiles are a block of their own, of the same section.
    section = shown("yaml", "profiles").partition("opserve:\n")[2]
    (folder / "model-config.yaml").write_text(config + section)
    said = run(project, "-m", "archive.packer.pack", "double", "--profile", "throughput")
    assert said.startswith("double 1.0, profile throughput: ")
