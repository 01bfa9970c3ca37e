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


class Servers:
    """Starts servers for tests: `serve([archive, …], key="value", …)` gives a running one.

    The keywords replace lines of the shipped config.properties; the same call gives the same server. It is stopped at
    the end of the file that started it, or of the session if it is `shared`: each takes a gigabyte.
    """

    def __init__(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self._tmp_path_factory = tmp_path_factory
        self._running: dict[tuple, tuple[TorchServe, contextlib.ExitStack]] = {}
        self._shared: set[tuple] = set()

    def __call__(self, archives: list[Path], *, shared: bool = False, **changes: str) -> TorchServe:
        """Returns the server of these archives and settings, which it starts if it does not run."""
        key = (tuple(sorted(map(str, archives))), tuple(sorted(changes.items())))
        if shared:
            self._shared.add(key)
        if key not in self._running:
            stack = contextlib.ExitStack()
            home = self._tmp_path_factory.mktemp("home")
            self._running[key] = stack.enter_context(serving(home, archives, **changes)), stack
        return self._running[key][0]

    def stop(self, *, shared: bool) -> None:
        """Stops those that are not shared, or all."""
        for key in [key for key in self._running if shared or key not in self._shared]:
            self._running.pop(key)[1].close()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Gives a running server; see Servers."""
    servers = Servers(tmp_path_factory)
    yield servers
    servers.stop(shared=True)


@pytest.fixture(scope="module", autouse=True)
def _stop_servers_of_file(serve: Servers) -> Iterator[None]:
    yield
    serve.stop(shared=False)


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
