"""Fixtures that every part of the tests may use: real TorchServes of their own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import foreign
from tests.support.torchserve import Serve, TorchServe, serving


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`serve([archive, …], key="value", …)` gives a running server; all are stopped when the session ends.

    The keywords replace lines of the shipped config.properties; the same call gives the same server.
    """
    with contextlib.ExitStack() as servers:
        known: dict[tuple, TorchServe] = {}

        def start(archives: list[Path], **changes: str) -> TorchServe:
            key = (tuple(sorted(map(str, archives))), tuple(sorted(changes.items())))
            if key not in known:
                home = tmp_path_factory.mktemp("home")
                known[key] = servers.enter_context(serving(home, archives, **changes))
            return known[key]

        yield start


@pytest.fixture(scope="session")
def their(tmp_path_factory: pytest.TempPathFactory) -> foreign.Foreign:
    """An operator library, a scripted and a traced model that need it, and a configuration: none of them ours."""
    return foreign.make(tmp_path_factory.mktemp("foreign"))
