"""Unpacked archives made from small modules of plain PyTorch."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from archive.building.export import quiet_torchscript
from handlers.config import CONFIG_FILE


@pytest.fixture
def unpacked_archive(tmp_path: Path) -> Callable[..., Path]:
    """`make(module, inputs, outputs, hooks=…, **opserve)` writes a folder that `ServableModel` can load."""

    def make(module: nn.Module, inputs: list[dict], outputs: list[dict], hooks: str | None = None, **opserve) -> Path:
        with quiet_torchscript():
            torch.jit.script(module).save(tmp_path / "model.pt")
        section = {"artifact": "model.pt", "inputs": inputs, "outputs": outputs} | opserve
        if hooks is not None:
            (tmp_path / "hooks.py").write_text(hooks)
            section["hooks"] = "hooks.py"
        (tmp_path / CONFIG_FILE).write_text(yaml.safe_dump({"opserve": section}))
        return tmp_path

    return make


@pytest.fixture
def pair():
    """Two ends of a stream; the second one is read from."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()
