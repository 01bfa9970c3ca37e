"""The shipped archives behind a real TorchServe, for each of the workers; and the shipped sample."""

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy
import pytest
from PIL import Image

from archive.repository import BUILD, ROOT, find_models
from tests.support.runtimes import packed_for
from tests.support.torchserve import Serve, TorchServe


@pytest.fixture(scope="session")
def shipped_archives(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """`shipped_archives(runtime)` gives all models, packed for that worker."""

    @cache
    def pack(runtime: str) -> list[Path]:
        folder = tmp_path_factory.mktemp(f"shipped-{runtime}")
        return [packed_for(ROOT / "model_store" / f"{name}.mar", runtime, folder) for name in find_models()]

    return pack


@pytest.fixture(scope="session")
def shipped(serve: Serve, runtime: str, shipped_archives: Callable[[str], list[Path]]) -> TorchServe:
    """All models on one server; it has compared each sample when it is ready."""
    return serve(shipped_archives(runtime), shared=True)


@pytest.fixture(scope="session")
def digits(shipped: TorchServe) -> TorchServe:
    """A server of `digits`, and of others."""
    return shipped


class Sample:
    """The photograph that `digits` ships with."""

    def __init__(self) -> None:
        folder = BUILD / "models" / "digits" / "sample"
        self.png = (folder / "request" / "image.png").read_bytes()
        self.pixels = numpy.asarray(Image.open(io.BytesIO(self.png)))
        self.corners = json.loads((folder / "request" / "corners.json").read_text())
        self.answer = json.loads((folder / "answer.json").read_text())

    def form(self, **changes) -> dict:
        """`files` for requests.post; a changed part is bytes, or None to leave it out."""
        parts = {"image": self.png, "corners": json.dumps(self.corners).encode()} | changes
        return {name: (name, content) for name, content in parts.items() if content is not None}

    def document(self, **changes) -> dict:
        """The same as plain JSON values."""
        return {"image": self.pixels.tolist(), "corners": self.corners} | changes


@pytest.fixture(scope="session")
def sample() -> Sample:
    return Sample()
