"""Fixtures that every part of the tests may use: real TorchServes of their own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.external import ExternalFiles, make_external_files
from tests.support.runtimes import RUNTIMES, require
from tests.support.torchserve import Serve, TorchServe, serving, stop_all_below

pytest_plugins = ["tests.support.packed"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: with two processes, none of them is left over at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After an interrupt the processes that run tests have ten seconds, and may leave a server behind."""
    if not hasattr(session.config, "workerinput"):
        stop_all_below(session.config._tmp_path_factory.getbasetemp())


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


@pytest.fixture(scope="session", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """The worker that serves: what uses this fixture is tested with each of them.

    A test of something that only one of them has, or that has nothing to do with workers, chooses it by
    `pytest.mark.parametrize("runtime", ["python"], indirect=True)`.
    """
    return require(request.param)


@pytest.fixture(scope="session")
def external(tmp_path_factory: pytest.TempPathFactory) -> ExternalFiles:
    """An operator library, a scripted and a traced model that need it, and a configuration: none of them ours."""
    return make_external_files(tmp_path_factory.mktemp("external"))
