"""External models and an operator library, made for the tests."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import nn

from archive.building.export import quiet_torchscript

# An operator of another project, written by the example of PyTorch's page on the stable ABI.
SOURCE = """
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

torch::stable::Tensor shift(const torch::stable::Tensor& x, double by) {
    auto input = torch::stable::contiguous(x);
    auto output = torch::stable::empty_like(input);
    const float* source = input.const_data_ptr<float>();
    float* target = output.mutable_data_ptr<float>();
    for (int64_t i = 0; i < input.numel(); ++i) target[i] = source[i] + static_cast<float>(by);
    return output;
}

STABLE_TORCH_LIBRARY(mine, library) { library.def("shift(Tensor x, float by) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(mine, CPU, library) { library.impl("shift", TORCH_BOX(&shift)); }
"""

CONFIG = {
    "minWorkers": 1,
    "maxWorkers": 1,
    "batchSize": 1,
    "maxBatchDelay": 1,
    "responseTimeout": 60,
    "startupTimeout": 60,
    "opserve": {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [-1]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [-1]}],
    },
}


class ExternalFiles(NamedTuple):
    """Files of another project."""

    library: Path
    scripted: Path
    traced: Path
    config: Path


class Branching(nn.Module):
    """Shifts positive sums up and others down: control flow that tracing would lose."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return torch.ops.mine.shift(x, 10.0)
        return torch.ops.mine.shift(x, -10.0)


class Straight(nn.Module):
    """A module that tracing loses nothing of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mine.shift(x.abs(), 1.0)


def build_library(folder: Path) -> Path:
    """Compiles the operator into `folder/libmine.so`."""
    source, library = folder / "mine.cpp", folder / "libmine.so"
    source.write_text(SOURCE)
    package = Path(torch.__file__).parent
    command = ["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command += [f"-I{package / 'include'}", f"-L{package / 'lib'}", str(source), "-ltorch_cpu", "-o", str(library)]
    subprocess.run(command, check=True)
    return library


def write_artifacts(folder: Path, library: Path) -> tuple[Path, Path]:
    """Saves the scripted and the traced module."""
    torch.ops.load_library(str(library))
    scripted, traced = folder / "branching.pt", folder / "straight.pt"
    with quiet_torchscript():
        torch.jit.script(Branching()).save(scripted)
        torch.jit.trace(Straight(), torch.ones(3)).save(traced)
    return scripted, traced


def write_model_config(path: Path, **opserve) -> Path:
    """Writes a model-config.yaml for either module, with changes to its opserve section."""
    path.write_text(yaml.safe_dump(CONFIG | {"opserve": CONFIG["opserve"] | opserve}))
    return path


def make_external_files(folder: Path) -> ExternalFiles:
    """Makes all of them, once per process: a second copy of the library would register its operator twice."""
    library = build_library(folder)
    return ExternalFiles(library, *write_artifacts(folder, library), write_model_config(folder / "mine.yaml"))
