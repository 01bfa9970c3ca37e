"""Servers of tiny archives for the tests of the scripts."""

from pathlib import Path

import pytest

from tests.support import archives
from tests.support.torchserve import Serve, TorchServe


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny archives by name."""
    folder = tmp_path_factory.mktemp("archives")
    return {
        "echo": archives.echo(folder),
        "parts": archives.parts(folder),
        "loads_once": archives.make(folder, "loads_once", archives.LOADS_ONCE),
        "loads_slowly": archives.make(folder, "loads_slowly", archives.LOADS_SLOWLY),
        "raises": archives.make(folder, "raises", archives.RAISES.format(error="OSError")),
        "refuses": archives.make(folder, "refuses", archives.RAISES.format(error="RuntimeError")),
    }


@pytest.fixture(scope="session")
def running(serve: Serve, store: dict[str, Path]) -> TorchServe:
    """One server that the tests which do not stop it share; its tokens live for twelve seconds."""
    shared = ["echo", "parts", "loads_once", "loads_slowly"]
    return serve([store[name] for name in shared], shared=True, token_expiration_min="0.2")


@pytest.fixture
def stopped(tmp_path: Path, store: dict[str, Path]) -> TorchServe:
    """A home folder with the echo archive, whose server a test starts itself; it is stopped afterwards."""
    torchserve = TorchServe(tmp_path / "home", [store["echo"]])
    yield torchserve
    torchserve.stop()
