"""A saved module: the same bytes from every process, and the same module when it is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from archive.building.export import quiet_torchscript, save_script_module
from archive.repository import ROOT
from tests.support.packed import files_in


class Small(nn.Module):
    """Has constants of several kinds, its own and those of a module in it."""

    scale: torch.jit.Final[float]
    shift: torch.jit.Final[int]

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = 2.0, 3
        self.inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MaxPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.scale + self.shift


def test_a_saved_module_holds_no_path_and_is_the_same_module(tmp_path):
    torch.manual_seed(0)
    with quiet_torchscript():
        module = torch.jit.script(Small().eval())
    save_script_module(module, tmp_path / "small.pt")
    content = tmp_path / "small.pt"
    members = files_in(content)
    for root in (ROOT, Path(torch.__file__).parent, tmp_path):
        assert not any(str(root).encode() in member for member in members.values())
    with quiet_torchscript():
        again = torch.jit.load(content)
    x = torch.rand(1, 1, 8, 8)
    assert torch.equal(again(x), module(x))
    assert getattr(again.inner, "0").kernel_size == (3, 3)
    with pytest.raises(RuntimeError, match=r"self\.inner|\(inner\)"):  # the line of the error is still shown
        again(torch.rand(3))


def test_a_module_is_saved_the_same_by_every_process(tmp_path):
    """The order of a set of names differs between processes."""
    script = (
        "import sys, torch; from pathlib import Path; from tests.archive.building.test_export import Small;"
        "from archive.building.export import save_script_module; torch.manual_seed(0);"
        "save_script_module(torch.jit.script(Small()), Path(sys.argv[1]))"
    )
    saved = []
    for seed in ("1", "2", "3"):
        (tmp_path / seed).mkdir()
        command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / seed / "small.pt")]
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        saved.append((tmp_path / seed / "small.pt").read_bytes())
    assert saved[0] == saved[1] == saved[2]
