"""Archives with a manifest on a real TorchServe: a fault is one line, and is not retried forever."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from archive.packer.container import write_archive
from archive.packer.contents import ArchiveContents
from archive.packer.keys import load_private_key, make_keys
from archive.packer.pack import pack
from handlers.integrity.signing import PUBLIC_KEY_VARIABLE
from scripts.torchserve import processes
from scripts.torchserve.workers import count_ready_workers
from tests.support.external import write_model_config
from tests.support.packed import files_in
from tests.support.torchserve import TorchServe, until

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def make(external, runtime, tmp_path_factory) -> Callable[..., Path]:
    """`make(version=…, key=…, settings…)` packs an external model; the settings are TorchServe's."""

    def pack_it(version: str = "1.0", key: Path | None = None, **settings: int) -> Path:
        folder = tmp_path_factory.mktemp("packed")
        config = write_model_config(folder / "mine.yaml")
        with config.open("a") as file:
            file.writelines(f"{name}: {value}\n" for name, value in settings.items())
        contents = ArchiveContents.from_files("mine", external.scripted, [external.library], config, version=version)
        path, _ = pack(contents, folder, load_private_key(key) if key else None, runtime)
        return path

    return pack_it


@pytest.fixture
def home(tmp_path) -> Iterator[Callable[..., TorchServe]]:
    """`home(archive, …)` is a server that is not started yet; it is stopped at the end, whatever happens."""
    made: list[TorchServe] = []

    def make_home(*archives: Path) -> TorchServe:
        made.append(TorchServe(tmp_path / f"home{len(made)}", list(archives)))
        return made[-1]

    yield make_home
    for torchserve in made:
        torchserve.stop()


def unpacked(torchserve: TorchServe) -> Path:
    """Returns the folder that TorchServe unpacked its only archive into."""
    (folder,) = (torchserve.server.temp / "models").glob("[!.]*")
    return folder


def kill_worker(torchserve: TorchServe) -> None:
    frontend = torchserve.server.require_running()
    (worker,) = processes.workers(torchserve.home, torchserve.server.temp, [frontend])
    worker.kill()
    psutil.wait_procs([worker], timeout=30)


def wait_for_line(torchserve: TorchServe, pattern: str) -> None:
    """Waits until the workers' log has a line."""
    until(lambda: re.search(pattern, torchserve.model_log()), f"a line {pattern!r}")


def answer(torchserve: TorchServe, version: str = "") -> dict:
    return torchserve.predict(f"mine{version}", json={"x": [1, 2]}).json()


def test_two_versions_are_served_side_by_side(make, home):
    old, new = make(), make(version="2.0")
    assert (old.name, new.name) == ("mine.mar", "mine@2.0.mar")
    torchserve = home(old, new)
    started = torchserve.start()
    assert started.returncode == 0, started.stderr
    for version in ("/1.0", "/2.0"):
        assert answer(torchserve, version) == {"y": [11, 12]}


def test_a_tampered_archive_is_named_by_start(make, home, tmp_path):
    files = files_in(make())
    files["handlers/model.py"] += b"# changed"
    bad = tmp_path / "mine.mar"
    write_archive(bad, files)
    failed = home(bad).start()
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: mine.mar: handlers/model.py: damaged or changed: it has ")
    assert failed.stderr.count("\n") == 1


def test_a_worker_refuses_an_archive_that_changed_after_unpacking(make, home):
    torchserve = home(make(maxRetryTimeoutInSec=5))
    assert torchserve.start().returncode == 0
    # By now Python's bytecode is next to the modules, which is not a reason to refuse.
    kill_worker(torchserve)
    until(lambda: count_ready_workers(torchserve.describe("mine")) > 0, "another worker")
    assert answer(torchserve) == {"y": [11, 12]}
    # A module that can no longer be imported: the check comes first.
    module = unpacked(torchserve) / "handlers" / "codecs" / "decode.py"
    module.write_bytes(module.read_bytes() + b"}")
    kill_worker(torchserve)
    wait_for_line(torchserve, r"ModelError: handlers/codecs/decode\.py: damaged or changed: it has [\d,]+ bytes, ")
    assert "SyntaxError" not in torchserve.model_log()


def test_a_worker_with_a_public_key_refuses_an_unsigned_archive(make, home, tmp_path, monkeypatch):
    public = make_keys(tmp_path / "key.pem")
    monkeypatch.setenv(PUBLIC_KEY_VARIABLE, str(public))
    refused = home(make()).start()
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: mine.mar: opserve.sig: missing: the archive is not signed")
    torchserve = home(make(key=tmp_path / "key.pem", maxRetryTimeoutInSec=5))
    started = torchserve.start()
    assert started.returncode == 0, started.stderr
    assert answer(torchserve) == {"y": [11, 12]}
    # The key has reached the worker, which notices a missing signature.
    (unpacked(torchserve) / "opserve.sig").unlink()
    kill_worker(torchserve)
    wait_for_line(
        torchserve, r"ModelError: opserve\.sig: missing: the archive is not signed, and .*key\.pub\.pem demands"
    )
