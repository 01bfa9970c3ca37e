"""Starting and stopping a server, and everything that can go wrong with it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from scripts.torchserve import processes
from tests.support import archives
from tests.support.torchserve import TorchServe, nothing_left, until

pytestmark = pytest.mark.server


def test_start_predicts_and_stop_leaves_nothing_behind(stopped: TorchServe) -> None:
    (stopped.model_store / "a folder that is no archive").mkdir()
    started = stopped.start()
    assert started.returncode == 0, started.stderr
    assert '{"doubled": [3.0, 4]}' in started.stdout
    assert "same" in started.stdout
    frontend = stopped.server.require_running()
    family = [frontend, *frontend.children(recursive=True)]
    assert stopped.stop().stdout == "stopped\n"
    assert not any(map(processes.alive, family))
    assert nothing_left(stopped.server)
    again = stopped.stop()
    assert (again.returncode, again.stdout.split(":")[0]) == (0, "not running")
    assert stopped.script("status").returncode == 3


def test_what_a_killed_frontend_leaves_is_cleaned_up(stopped: TorchServe) -> None:
    assert stopped.start("--no-supervisor").returncode == 0
    frontend = stopped.server.require_running()
    workers = processes.workers(stopped.home, stopped.server.temp, [frontend])
    assert workers
    # A suspended worker cannot notice that its frontend is gone: it is left as an orphan, as a busy one is.
    workers[0].suspend()
    frontend.kill()
    until(lambda: stopped.server.frontend() is None, "the end of the frontend")
    assert (stopped.server.temp / ".model_server.pid").exists()
    done = stopped.stop()
    assert done.returncode == 0, done.stderr
    assert not any(map(processes.alive, workers))
    assert nothing_left(stopped.server)


def test_start_works_after_a_kill_and_a_later_start_notices_newer_archives(stopped: TorchServe) -> None:
    assert stopped.start("--no-supervisor").returncode == 0
    stopped.server.require_running().kill()
    until(lambda: stopped.server.frontend() is None, "the end of the frontend")
    assert stopped.start().returncode == 0
    assert stopped.predict("echo", json={"values": [1]}).json() == {"doubled": [2]}
    assert "newer" not in stopped.start().stdout
    archive = stopped.model_store / "echo.mar"
    content = archive.read_bytes()
    archive.unlink()
    archive.write_bytes(content)
    assert "note: echo.mar is newer than the one being served" in stopped.start().stdout


def test_a_server_started_by_hand_is_recognised_and_stopped(stopped: TorchServe, tmp_path: Path) -> None:
    temp = tmp_path / "t"
    temp.mkdir()
    environment = os.environ | {"TMPDIR": str(temp), "TEMP": str(temp)}
    torchserve = Path(sys.executable).parent / "torchserve"
    line = f"{torchserve} --start --ncs --model-store model_store --models all --ts-config config.properties"
    subprocess.run(line.split(), cwd=stopped.home, env=environment, stdout=subprocess.DEVNULL, check=True)
    joined = stopped.start()
    assert joined.returncode == 0, joined.stderr
    assert "already running" in joined.stdout
    assert stopped.predict("echo", json={"values": [1]}).json() == {"doubled": [2]}
    assert stopped.stop().stdout == "stopped\n"
    assert nothing_left(stopped.server)
    assert not [path for path in temp.rglob("*") if path.name != "models"]


def test_an_occupied_port_is_reported_with_the_process_that_holds_it(stopped: TorchServe) -> None:
    host, port = stopped.server.ports()["management_address"]
    with socket.create_server((host, port)):
        failed = stopped.start()
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: management_address {host}:{port}: Address already in use")
    assert f"pid {os.getpid()}" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert nothing_left(stopped.server)


@pytest.mark.parametrize("model", ["raises", "refuses"])
def test_a_worker_that_dies_while_loading_shows_its_traceback_at_once(
    stopped: TorchServe, store: dict[str, Path], model: str
) -> None:
    (stopped.model_store / f"{model}.mar").symlink_to(store[model])
    begun = time.monotonic()
    failed = stopped.start()
    assert failed.returncode == 1
    assert f"a worker of {model} died while loading:\nTraceback " in failed.stderr
    assert failed.stderr.rstrip().endswith("Error: libmissing.so cannot be opened")
    assert f"{model}_handler.py" in failed.stderr
    assert time.monotonic() - begun < 60
    assert nothing_left(stopped.server)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        handler = archive.getinfo("echo_handler.py")
    content = bytearray(path.read_bytes())
    # In the middle of the compressed handler.
    content[handler.header_offset + 30 + len(handler.filename) + handler.compress_size // 2] ^= 0x01
    path.write_bytes(content)


def flipped_end(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        handler = archive.getinfo("echo_handler.py")
    content = bytearray(path.read_bytes())
    # The end mark of the compressed handler: TorchServe checks it, Python's reader does not.
    content[handler.header_offset + 30 + len(handler.filename) + handler.compress_size - 1] ^= 0xFF
    path.write_bytes(content)


def foreign(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no archive of TorchServe")


def without_handler(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        manifest = {"model": {"modelName": "bad", "handler": "gone.py", "modelVersion": "1.0"}}
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "bad.mar: not a readable archive"),
        (flipped, "bad.mar: "),
        (flipped_end, "bad.mar: echo_handler.py: "),
        (foreign, "bad.mar: not a TorchServe archive"),
        (without_handler, "bad.mar: it does not contain its handler gone.py"),
    ],
)
def test_a_broken_archive_is_named_before_anything_starts(
    stopped: TorchServe, store: dict[str, Path], damage, said: str
) -> None:
    bad = stopped.model_store / "bad.mar"
    shutil.copyfile(store["echo"], bad)
    (stopped.model_store / "echo.mar").unlink()
    damage(bad)
    failed = stopped.start()
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {said}")
    assert failed.stderr.count("\n") == 1
    assert not stopped.server.logs.exists()


def test_an_archive_that_torchserve_refuses_is_named_at_once(stopped: TorchServe) -> None:
    bad = stopped.model_store / "echo.mar"
    with zipfile.ZipFile(bad) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    # Complete and harmless, but TorchServe cannot run it.
    files["MAR-INF/MANIFEST.json"] = files["MAR-INF/MANIFEST.json"].replace(b'"python"', b'"cobol"')
    bad.unlink()
    with zipfile.ZipFile(bad, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    failed = stopped.start()
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: TorchServe cannot open echo.mar: ")
    assert nothing_left(stopped.server)


def test_a_sample_with_another_answer_than_expected_is_an_error(stopped: TorchServe) -> None:
    body = json.dumps({"values": [1]}).encode()
    archives.make(stopped.model_store, "wrong", archives.ECHO, {"body.json": body}, {"doubled": [3]})
    failed = stopped.start()
    assert failed.returncode == 1
    assert "wrong does not answer its sample" in failed.stderr
    assert nothing_left(stopped.server)


def test_an_empty_model_store_is_an_error(tmp_path: Path) -> None:
    failed = TorchServe(tmp_path / "home", []).start()
    assert failed.returncode == 1
    assert "`make archive` builds them" in failed.stderr


def test_a_configuration_that_java_refuses_shows_its_reason(stopped: TorchServe) -> None:
    with stopped.server.config.open("a") as config:
        config.write("vmargs=-Xmx1g -XX:NoSuchFlag\n")
    failed = stopped.start()
    assert failed.returncode == 1
    assert "NoSuchFlag" in failed.stderr
    assert nothing_left(stopped.server)


def test_a_missing_declaration_of_metrics_is_named(stopped: TorchServe) -> None:
    with stopped.server.config.open("a") as config:
        config.write("metrics_config=gone.yaml\n")
    failed = stopped.start()
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: metrics_config gone.yaml: no such file in {stopped.home}; copy ")
    assert nothing_left(stopped.server)


def test_an_old_java_home_does_not_win_silently(
    stopped: TorchServe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old" / "bin" / "java"
    old.parent.mkdir(parents=True)
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    started = stopped.start()
    assert started.returncode == 0, started.stderr
    assert "is Java 11" in started.stderr


def test_tokens_need_their_file(stopped: TorchServe) -> None:
    failed = stopped.script("tokens", "management")
    assert failed.returncode == 1
    assert "key_file.json does not exist" in failed.stderr
    stopped.server.key_file.write_text('{"management": {}}')
    failed = stopped.script("tokens", "management")
    assert failed.returncode == 1
    assert "is not what TorchServe writes" in failed.stderr
