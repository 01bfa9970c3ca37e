"""The native worker's process: how it listens, loads, refuses, stands in and ends. None of it needs a model."""

import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from archive.packer.keys import load_private_key, make_keys
from handlers.errors import ModelError
from handlers.integrity.check import check_archive
from handlers.integrity.manifest import MANIFEST_FILE, FileRecord, Manifest
from handlers.integrity.requirements import LibraryRequirements
from handlers.integrity.signing import PUBLIC_KEY_VARIABLE, SIGNATURE_FILE
from scripts.torchserve.worker_log import _traceback
from tests.support.native_worker import NOT_BUILT, PROGRAM, NativeWorker, encode_batch, encode_load

pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason=NOT_BUILT)

# What TorchServe's frontend looks for (WorkerLifeCycle of 0.12).
ADDRESSES_THE_SERVER = re.compile(r"^(INFO > )?(\[METRICS]|\[PID])")


def seal(folder: Path, **requirements: object) -> Path:
    """Writes the manifest of an unpacked archive, whose libmine.so has these requirements."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {
        name: FileRecord(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        for name, path in paths.items()
        if name != MANIFEST_FILE
    }
    library = LibraryRequirements(**{"machine": os.uname().machine} | requirements)
    (folder / MANIFEST_FILE).write_bytes(Manifest("mine", "1.0", files, {"libmine.so": library}).encode())
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unpacked archive that is sound, but without a model."""
    unpacked = tmp_path / "models" / "0123abcd"
    (unpacked / "MAR-INF").mkdir(parents=True)
    (unpacked / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"modelName": "mine", "modelVersion": "1.0"}}')
    (unpacked / "libmine.so").write_bytes(b"\x7fELF")
    (unpacked / "sample").mkdir()
    (unpacked / "sample" / "größe.json").write_text("[1]")
    return seal(unpacked)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., NativeWorker]]:
    """`start(…)` is a worker, which is ended whatever happens."""
    started: list[NativeWorker] = []

    def start_one(**options: object) -> NativeWorker:
        started.append(NativeWorker(tmp_path, **options))
        return started[-1]

    yield start_one
    for worker in started:
        worker.close()


def refusal(worker: NativeWorker, folder: Path, **options: object) -> str:
    """Why it does not load an archive, as a start or a deploy would say it."""
    answer = worker.load(folder, **options)
    assert (answer.code, answer.text, answer.predictions) == (500, b"Unknown exception", [])
    assert worker.wait() == 1
    first, *reason = _traceback(worker.log().splitlines())
    assert first.startswith("Traceback ")
    return "\n".join(reason)


def test_it_says_who_it_is_and_ends_with_its_frontend(start):
    worker = start()
    lines = worker.log().splitlines()
    assert lines[0] == f"s_name_part0={worker.path.parent}/.ts.sock, s_name_part1=9000, pid={worker.process.pid}"
    assert lines.index(f"[PID]{worker.process.pid}") < lines.index("Torch worker started.")
    worker.socket.close()
    assert worker.wait() == 0
    assert worker.log().splitlines()[-1] == "Frontend disconnected."
    assert not worker.path.exists()


def test_the_socket_of_an_earlier_worker_is_replaced(start):
    first = start()
    first.process.kill()
    first.wait()
    assert first.path.exists()
    assert start().load(Path("/nowhere")).code == 500


@pytest.mark.parametrize("message", [b"X", b"\0", encode_batch([("a", [], [])]), b"L" + struct.pack("!i", -5)])
def test_what_is_not_the_protocol_ends_it(start, message):
    worker = start()
    worker.send(message)
    assert worker.wait() == 1
    assert "Backend worker process died." in worker.log()


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_leaves_its_reason_in_the_log(start, number):
    worker = start()
    worker.process.send_signal(number)
    assert worker.wait() == -number
    first, *frames, reason = _traceback(worker.log().splitlines())
    assert first == "Traceback (most recent call first):"
    assert frames and all(frame.startswith("  ") for frame in frames)
    assert reason.startswith(f"{signal.Signals(number).name}: ")


def test_a_signal_that_asks_it_to_end_does(start):
    worker = start()
    worker.process.terminate()
    assert worker.wait() == -signal.SIGTERM


def flip(folder: Path, name: str) -> None:
    """Flips a bit in the middle of a file."""
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def append(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes((folder / name).read_bytes() + content)


CHANGES = {
    "a flipped bit": lambda folder: flip(folder, "sample/größe.json"),
    "a flipped bit of the manifest": lambda folder: flip(folder, MANIFEST_FILE),
    "a longer file": lambda folder: (folder / "libmine.so").write_bytes(bytes(12345)),
    "a missing file": lambda folder: (folder / "libmine.so").unlink(),
    "a missing folder": lambda folder: (folder / "MAR-INF").rename(folder.parent / "gone"),
    "no manifest": lambda folder: (folder / MANIFEST_FILE).unlink(),
    "an extra file": lambda folder: (folder / "sample" / "x.py").write_bytes(b""),
    "an extra file that is hidden": lambda folder: (folder / ".x").write_bytes(b""),
    "a link": lambda folder: (folder / "sample" / "x").symlink_to("/etc/passwd"),
    "a link to a folder": lambda folder: (folder / "x").symlink_to("sample"),
    "a pipe": lambda folder: os.mkfifo(folder / "x"),
    "another format": lambda folder: (folder / MANIFEST_FILE).write_text('{"format": 2}'),
    "a list": lambda folder: (folder / MANIFEST_FILE).write_text("[]"),
    "a blank more": lambda folder: append(folder, MANIFEST_FILE, b" "),
    "not a core": lambda folder: (folder / "core.txt").write_bytes(b""),
}


class TestArchive:
    """It refuses what the Python worker refuses, with the same words."""

    @pytest.mark.parametrize("change", CHANGES)
    def test_that_was_changed(self, start, folder, change):
        CHANGES[change](folder)
        with pytest.raises(ModelError) as expected:
            check_archive(folder)
        # What follows is the parser's own.
        known, parser, _ = str(expected.value).partition(" not JSON: ")
        found = refusal(start(), folder)
        assert found.startswith(f"ModelError: {known}{parser}") and (parser or found == f"ModelError: {known}")

    @pytest.mark.parametrize(
        "requirements",
        [
            {"machine": "pdp11"},
            {"symbols": {"GLIBC": "9.99"}},
            {"symbols": {"GLIBCXX": "3.4.999"}},
            {"symbols": {"CXXABI": "1.9.9", "GLIBC": "2.2"}},
            {"torch_stable_abi": "99.0"},
            {"torch_exactly": "1.13"},
            {"onnxruntime_api": 999},
        ],
    )
    def test_that_this_machine_cannot_run(self, start, folder, requirements):
        seal(folder, **requirements)
        with pytest.raises(ModelError) as expected:
            check_archive(folder)
        assert refusal(start(), folder) == f"ModelError: {expected.value}"

    def test_that_is_sound(self, start, folder):
        """What it says then is about the model."""
        (folder / "core.4711").write_bytes(b"")
        check_archive(folder)
        assert "model-config.json" in refusal(start(), folder)

    def test_behind_an_envelope(self, start, folder):
        reason = refusal(start(), folder, envelope="json")
        assert reason == (
            "ModelError: config.properties: service_envelope=json takes requests apart before they can be read here; "
            "take the line out"
        )

    @pytest.mark.parametrize("key", ["", "key.pem", "/nowhere/key.pem", "/dev/null", "/"])
    def test_for_a_key_that_cannot_be_used(self, start, folder, key, monkeypatch):
        monkeypatch.setenv("OPSERVE_PUBLIC_KEY", key)
        with pytest.raises(ModelError) as expected:
            check_archive(folder)
        assert refusal(start(OPSERVE_PUBLIC_KEY=key), folder) == f"ModelError: {expected.value}"

    def test_that_was_signed(self, start, folder, tmp_path, monkeypatch):
        private = tmp_path / "key.pem"
        public, other = make_keys(private), make_keys(tmp_path / "other.pem")
        signature = load_private_key(private).sign((folder / MANIFEST_FILE).read_bytes())
        for key, content in ((public, signature), (public, signature[:-1]), (public, bytes(64)), (other, signature)):
            (folder / SIGNATURE_FILE).write_bytes(content)
            monkeypatch.setenv(PUBLIC_KEY_VARIABLE, str(key))
            found = refusal(start(OPSERVE_PUBLIC_KEY=str(key)), folder)
            if (key, content) == (public, signature):
                check_archive(folder)
                assert "model-config.json" in found
            else:
                with pytest.raises(ModelError) as expected:
                    check_archive(folder)
                assert found == f"ModelError: {expected.value}"
            # Otherwise the next worker would stand in.
            for record in folder.parent.glob(".*.load"):
                record.unlink()

    def test_that_was_not_signed(self, start, folder, tmp_path, monkeypatch):
        public = make_keys(tmp_path / "key.pem")
        monkeypatch.setenv(PUBLIC_KEY_VARIABLE, str(public))
        with pytest.raises(ModelError) as expected:
            check_archive(folder)
        assert refusal(start(OPSERVE_PUBLIC_KEY=str(public)), folder) == f"ModelError: {expected.value}"


class TestStandIn:
    """A worker that has failed three times answers 503, and says so where `make status` looks."""

    @staticmethod
    def fail(start: Callable[..., NativeWorker], folder: Path, **options: object) -> NativeWorker:
        (folder / "sample" / "x\u2028[PID]1").write_bytes(b"")
        for _ in range(3):
            worker = start(**options)
            assert worker.load(folder).code == 500
            worker.wait()
        return start(**options)

    def test_answers(self, start, folder):
        worker = self.fail(start, folder)
        assert worker.load(folder)[:2] == (200, b"loaded model mine")
        (record,) = folder.parent.glob(".*.load")
        state = json.loads(record.read_text())
        assert record.name == ".0123abcd.9000.load"
        assert (state["failures"], state["stands_in"]) == (3, worker.process.pid)
        assert state["error"].startswith("ModelError: sample/x")
        http = [("Host", "h"), ("describe", "True")]
        batch = [("1", http[:1], [("body", "", b"{}")]), ("2", http, []), ("3", http, [("body", "", b"{}")])]
        answer = worker.ask(encode_batch(batch))
        assert (answer.code, answer.text) == (200, b"Prediction success")
        first, described, forged = answer.predictions
        assert (first.id, first.status, first.phrase) == (b"1", 503, b"Service Unavailable")
        assert json.loads(first.body)["error"]["code"] == 503 and b"sample" not in first.body
        assert dict(first.headers)[b"Retry-After"].isdigit()
        assert json.loads(described.body)["pid"] == worker.process.pid
        assert forged.status == 503

    def test_makes_way_for_a_worker_that_serves(self, start, folder):
        worker = self.fail(start, folder)
        worker.load(folder)
        script = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_SH); input()"
        serving = subprocess.Popen(
            [sys.executable, "-c", script, str(folder.parent / ".0123abcd.serving")], stdin=subprocess.PIPE
        )
        try:
            begun = time.monotonic()
            assert worker.wait() == 1
            assert time.monotonic() - begun < 4
        finally:
            serving.kill()
            serving.wait()
        assert worker.log().splitlines()[-1] == "the stand-in ends, so that the model is loaded again"

    def test_ends_when_the_next_attempt_is_due(self, start, folder):
        worker = self.fail(start, folder)
        worker.load(folder)
        assert worker.wait() == 1

    def test_is_none_for_another_worker(self, start, folder):
        self.fail(start, folder)
        assert start(port=9001).load(folder).code == 500

    def test_writes_nothing_that_addresses_the_server(self, start, folder):
        worker = self.fail(start, folder)
        worker.load(folder)
        lines = re.split("\r\n|[\n\r\u2028\u2029\x85]", worker.log())
        assert [line for line in lines if ADDRESSES_THE_SERVER.match(line)] == [f"[PID]{worker.process.pid}"]


def test_a_load_that_is_sent_in_pieces_is_read(start, folder):
    worker = start()
    message = encode_load(folder)
    for byte in message[:-1]:
        worker.send(bytes([byte]))
    assert worker.ask(message[-1:]).code == 500
