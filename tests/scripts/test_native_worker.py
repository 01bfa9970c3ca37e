"""The commands know the native worker: what it is, why it does not load, and what it leaves behind."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from archive.native_worker import ENGINES, PROGRAM, find_worker
from archive.packer.container import write_archive
from archive.packer.contents import ArchiveContents
from archive.packer.mar_manifest import NATIVE
from archive.packer.pack import pack
from handlers.integrity.manifest import MANIFEST_FILE, FileRecord, Manifest
from scripts.torchserve import processes
from tests.support.packed import files_in
from tests.support.torchserve import TorchServe, nothing_left, until

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(find_worker(*ENGINES) is None, reason="the native worker is not built here"),
]
REQUEST = {"x": [1, 2], "y": [0.5, -4]}
ANSWER = {"z": [2.5, 0.0]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scaled_add` for the native worker."""
    contents = ArchiveContents.from_model("scaled_add")
    return pack(contents, tmp_path_factory.mktemp("native"), runtime=NATIVE)[0]


@pytest.fixture
def native(tmp_path: Path, archive: Path) -> TorchServe:
    """A home folder with it, whose server a test starts itself; it is stopped afterwards."""
    torchserve = TorchServe(tmp_path / "home", [archive])
    yield torchserve
    torchserve.stop()


def pids(torchserve: TorchServe) -> list[int]:
    return [worker["pid"] for worker in torchserve.describe("scaled_add")["workers"]]


def programs(torchserve: TorchServe) -> set[str]:
    return {Path(psutil.Process(pid).cmdline()[0]).name for pid in pids(torchserve)}


def test_it_is_shown_scaled_and_stopped_like_any_other(native: TorchServe) -> None:
    started = native.start()
    assert started.returncode == 0, started.stderr
    assert native.predict("scaled_add", json=REQUEST).json() == ANSWER
    assert native.script("scale", "scaled_add", "2").returncode == 0
    assert len(pids(native)) == 2 and programs(native) == {Path(PROGRAM).name}
    shown = native.script("status").stdout
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("scaled_add")]
    assert row[1:6] == ["1.0", "2/2", "1", "cpu", "native"]
    assert row[6:] == [str(pid) for pid in pids(native)]
    assert "Torch worker started." in native.script("logs", "--lines", "1000").stdout
    assert native.stop().stdout == "stopped\n"
    assert nothing_left(native.server)


def test_what_a_killed_frontend_leaves_is_cleaned_up(native: TorchServe) -> None:
    assert native.start("--no-supervisor").returncode == 0
    (worker,) = map(psutil.Process, pids(native))
    native.server.require_running().kill()
    # Stopped, so that it does not notice.
    worker.suspend()
    assert native.stop().returncode == 0
    assert not processes.alive(worker) and nothing_left(native.server)


def test_a_server_started_by_hand_finds_it_and_is_stopped(native: TorchServe, tmp_path: Path) -> None:
    temp = tmp_path / "t"
    temp.mkdir()
    environment = os.environ | {"TMPDIR": str(temp), "TEMP": str(temp)}
    torchserve = Path(sys.executable).parent / "torchserve"
    line = f"{torchserve} --start --ncs --model-store model_store --models all --ts-config config.properties"
    subprocess.run(line.split(), cwd=native.home, env=environment, stdout=subprocess.DEVNULL, check=True)
    joined = native.start()
    assert joined.returncode == 0, joined.stderr
    assert native.predict("scaled_add", json=REQUEST).json() == ANSWER
    assert programs(native) == {Path(PROGRAM).name}
    assert native.stop().returncode == 0
    assert nothing_left(native.server)
    assert not [path for path in temp.rglob("*") if path.name != "models"]


def test_the_same_archive_can_be_registered_for_python(native: TorchServe) -> None:
    assert native.start("--model-api").returncode == 0
    assert programs(native) == {Path(PROGRAM).name}
    assert native.script("remove", "scaled_add").returncode == 0
    path = "/models?url=scaled_add.mar&runtime=python&initial_workers=1&synchronous=true"
    assert native.management("POST", path).status_code == 200
    assert native.predict("scaled_add", json=REQUEST).json() == ANSWER
    (pid,) = pids(native)
    assert any(word.endswith("model_service_worker.py") for word in psutil.Process(pid).cmdline())


def test_a_model_that_does_not_load_shows_its_reason_at_once(native: TorchServe, archive: Path, tmp_path: Path) -> None:
    files = files_in(archive)
    files["scaled_add.pt"] = b"junk"
    manifest = Manifest.decode(files.pop(MANIFEST_FILE))
    records = {name: FileRecord(hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()}
    profile = manifest.profile
    manifest = Manifest(manifest.name, manifest.version, records, manifest.libraries, profile)
    (native.model_store / "scaled_add.mar").unlink()
    write_archive(native.model_store / "scaled_add.mar", files | {MANIFEST_FILE: manifest.encode()})
    failed = native.start()
    assert failed.returncode == 1
    assert "ModelError: scaled_add.pt: not a TorchScript model that can be read" in failed.stderr
    assert nothing_left(native.server)


def test_one_that_crashes_is_replaced(native: TorchServe) -> None:
    assert native.start().returncode == 0
    (first,) = pids(native)
    psutil.Process(first).kill()
    until(
        lambda: pids(native) != [first] and native.predict("scaled_add", json=REQUEST).status_code == 200, "a new one"
    )
    assert programs(native) == {Path(PROGRAM).name}
