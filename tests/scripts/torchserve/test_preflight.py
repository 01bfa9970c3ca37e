"""Folders and files that TorchServe cannot use are reported before anything starts."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve import preflight
from scripts.torchserve.archives import Archive
from scripts.torchserve.temp_folder import SOCKET_PATH_BYTES, find_temp_folder
from tests.support.torchserve import TIMEOUT_S, TorchServe, nothing_left

pytestmark = pytest.mark.server
NOBODY = 65534


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mounts a file system at a folder, where this user may."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def one_line(done: subprocess.CompletedProcess[str], *said: str) -> bool:
    """Whether a command failed with one line that contains these texts."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert all(text in done.stderr for text in said), done.stderr
    return True


def test_a_key_file_that_is_a_folder(stopped: TorchServe) -> None:
    stopped.server.key_file.mkdir()
    for script in ("start", "stop"):
        assert one_line(stopped.script(script), f"{stopped.server.key_file} is a folder", "remove it")
    stopped.server.key_file.rmdir()
    assert nothing_left(stopped.server)


def test_stop_ends_the_server_even_if_its_key_file_is_a_folder(stopped: TorchServe) -> None:
    assert stopped.start("--no-supervisor").returncode == 0
    stopped.server.key_file.unlink()
    stopped.server.key_file.mkdir()
    assert one_line(stopped.stop(), "key_file.json is a folder")
    stopped.server.key_file.rmdir()
    assert nothing_left(stopped.server)


def test_logs_that_are_not_a_folder(stopped: TorchServe) -> None:
    stopped.server.logs.write_text("")
    assert one_line(stopped.start(), f"cannot make the folder {stopped.server.logs}: a file of that name exists")


def test_a_log_that_is_a_folder(stopped: TorchServe) -> None:
    (stopped.server.logs / "ts_log.log").mkdir(parents=True)
    assert one_line(stopped.start(), "ts_log.log cannot be written to", "remove it")


def test_a_model_store_that_is_missing_or_not_a_folder(stopped: TorchServe) -> None:
    shutil.rmtree(stopped.model_store)
    assert one_line(stopped.start(), f"{stopped.model_store} does not exist", "`make archive`")
    stopped.model_store.write_text("")
    assert one_line(stopped.start(), f"{stopped.model_store} is not a folder")


def test_a_temporary_folder_that_is_not_private(stopped: TorchServe) -> None:
    stopped.server.temp.mkdir(mode=0o777)
    stopped.server.temp.chmod(0o777)
    assert one_line(stopped.start(), f"{stopped.server.temp} exists and is not this user's private folder")
    stopped.server.temp.rmdir()
    stopped.server.temp.write_text("")
    assert one_line(stopped.start(), f"{stopped.server.temp} exists and is not this user's private folder")
    stopped.server.temp.unlink()


def test_a_home_that_is_missing(tmp_path: Path, stopped: TorchServe) -> None:
    for script in ("start", "stop"):
        command = [sys.executable, "-m", f"scripts.{script}", "--home", str(tmp_path / "gone")]
        command += ["--config", str(stopped.server.config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert one_line(done, f"cannot open the folder {tmp_path / 'gone'}: No such file or directory")


def test_a_read_only_file_system(stopped: TorchServe) -> None:
    with mounted(stopped.home, "--bind", str(stopped.home)):
        remounted = subprocess.run(["mount", "-o", "remount,bind,ro", str(stopped.home)], check=False)
        if remounted.returncode:
            pytest.skip("nothing can be mounted read-only here")
        assert one_line(stopped.start(), f"{stopped.home} cannot be written to (its file system is read-only)")
        assert stopped.stop().stdout.startswith("not running: ")


def test_a_full_disk_under_the_logs(stopped: TorchServe) -> None:
    stopped.server.logs.mkdir()
    with mounted(stopped.server.logs, "-t", "tmpfs", "-o", "size=64k", "full"):
        with contextlib.suppress(OSError), (stopped.server.logs / "old").open("wb") as file:
            file.write(bytes(1 << 20))
        assert one_line(stopped.start(), f"cannot write into {stopped.server.logs}: No space left on device")
    assert nothing_left(stopped.server)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_users_home_is_named(stopped: TorchServe) -> None:
    """As `nobody`, who can run this repository's environment only if its folders are open to others."""
    code = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        "from pathlib import Path; from scripts.torchserve.server import Server; "
        "from scripts.torchserve import preflight; "
        "from archive.process.command import run; home = Path(sys.argv[1]); "
        "run(lambda: preflight.check_folders(Server(home)))"
    )
    for folder in (stopped.home, *stopped.home.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp") and "pytest" in str(folder):
            folder.chmod(0o755)
    command = [
        sys.executable,
        "-c",
        "import scripts.torchserve.server, scripts.torchserve.preflight, archive.process.command, sys\n" + code,
    ]
    done = subprocess.run(
        [*command, str(stopped.home)], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert one_line(done, f"{stopped.home} cannot be written to (it belongs to user 0)")


@pytest.mark.parametrize("home", [Path("/srv/opserve"), Path("/x" * 60), Path("/" + "ü" * 45)])
def test_sockets_have_room_and_do_not_lie_where_a_cleaner_takes_them(home: Path) -> None:
    found = find_temp_folder(home)
    assert found == find_temp_folder(home)
    assert len(os.fsencode(found / ".ts.sock.65535")) <= SOCKET_PATH_BYTES
    assert not any(found.is_relative_to(cleaned) for cleaned in ("/tmp", "/run", "/var/run"))


def test_a_home_with_a_long_path_serves(tmp_path: Path, store: dict[str, Path]) -> None:
    torchserve = TorchServe(tmp_path / ("long" * 25) / "home", [store["echo"]])
    try:
        started = torchserve.start()
        assert started.returncode == 0, started.stderr
        assert not torchserve.server.temp.is_relative_to(torchserve.home)
        assert torchserve.server.temp.stat().st_mode & 0o077 == 0
    finally:
        torchserve.stop()
    assert nothing_left(torchserve.server)


def test_an_archive_for_the_native_worker_where_that_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    archives = [Archive(Path(f"{runtime}.mar"), "m", "1.0", None, runtime) for runtime in (None, "python", "native")]
    monkeypatch.setattr(preflight, "find_worker", lambda: Path("/program"))
    preflight.check_workers(archives)
    monkeypatch.setattr(preflight, "find_worker", lambda: None)
    preflight.check_workers(archives[:2])
    with pytest.raises(OpserveError) as refused:
        preflight.check_workers(archives)
    message = str(refused.value)
    assert message.startswith("native.mar is for the native worker, which is not built here; `make ext` builds it")
    assert message.endswith("Or pack it for Python: make archive MODEL=m RUNTIME=python")
