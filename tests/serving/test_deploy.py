"""Deploys, rollbacks and removals of versions on a server that gets requests all the time."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from archive.errors import OpserveError
from archive.packer.contents import ArchiveContents
from archive.packer.manifest import write_archive_with_manifest
from archive.packer.pack import pack, unpack
from archive.repository import ROOT
from handlers.integrity.manifest import MANIFEST_FILE
from scripts import grpc_client
from scripts.torchserve import deploy_record, versions
from scripts.torchserve.workers import count_ready_workers
from tests.support import archives
from tests.support.external import write_model_config
from tests.support.torchserve import TIMEOUT_S, TorchServe, until

pytestmark = pytest.mark.server

# Answers with the version, after as many seconds as the first number says.
HOOKS = """
import time


def preprocess(inputs):
    if inputs["x"].size:
        time.sleep(float(inputs["x"][0]))
    return inputs


def postprocess(outputs):
    return {{"y": outputs["y"] * 0 + {version}}}
"""

# Seconds that the sample of a version takes.
SLOW_SAMPLE = {"4.0": 2}


@pytest.fixture(scope="module")
def make(external, tmp_path_factory) -> Callable[[str], Path]:
    """`make(version)` packs a version; each is packed once."""
    made: dict[str, Path] = {}

    def pack_it(version: str) -> Path:
        if version not in made:
            folder = tmp_path_factory.mktemp("packed")
            (folder / "hooks.py").write_text(HOOKS.format(version=version))
            config = write_model_config(folder / "mine.yaml", hooks="hooks.py")
            sample = folder / "sample.json"
            # What is tried takes this long to answer.
            sample.write_text(json.dumps({"x": [SLOW_SAMPLE.get(version, 0), 1]}))
            contents = ArchiveContents.from_files(
                "mine", external.scripted, [external.library], config, sample, version=version
            )
            made[version], _ = pack(contents, folder)
        return made[version]

    return pack_it


@pytest.fixture
def torchserve(make, tmp_path) -> Iterator[TorchServe]:
    """A server of version 1.0 with the model API."""
    server = TorchServe(tmp_path / "home", [make("1.0")])
    try:
        started = server.start("--model-api")
        assert started.returncode == 0, started.stderr
        yield server
    finally:
        server.stop()


def add(server: TorchServe, archive: Path) -> None:
    shutil.copy(archive, server.model_store)


def answer(server: TorchServe, seconds: float = 0, version: str = "") -> tuple[int, dict]:
    response = server.predict(f"mine{version}", json={"x": [seconds, 1]})
    return response.status_code, response.json()


def changed(archive: Path, folder: Path, name: str, content: bytes) -> Path:
    """Returns an archive with another content of a file and a manifest that matches it."""
    unpacked = unpack(archive, folder / "unpacked")
    (unpacked / name).write_bytes(content)
    (unpacked / MANIFEST_FILE).unlink()
    write_archive_with_manifest(unpacked, folder / archive.name)
    return folder / archive.name


class Asking:
    """Threads that send requests without a pause, over HTTP and gRPC, and the answers."""

    def __init__(self, server: TorchServe, threads: int = 4) -> None:
        self._server, self._ended = server, threading.Event()
        self.answers: list[object] = []
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(threads)]

    def _ask(self, by_http: bool) -> None:
        while not self._ended.is_set():
            try:
                if by_http:
                    self.answers.append(answer(self._server, 0.01))
                else:
                    body = {"body": b'{"x": [0.01, 1]}'}
                    self.answers.append(
                        (200, json.loads(grpc_client.predict(self._server.server, "mine", body, TIMEOUT_S)))
                    )
            except Exception as error:
                self.answers.append(error)

    def __enter__(self) -> list[object]:
        for thread in self._threads:
            thread.start()
        return self.answers

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def test_no_request_is_lost(torchserve, make):
    add(torchserve, make("2.0"))
    assert torchserve.script("scale", "mine", "2").returncode == 0
    with Asking(torchserve) as answers, ThreadPoolExecutor(4) as pool:
        # Longer than registering takes: the old version is still answering them when the new one is the default.
        slow = [pool.submit(answer, torchserve, 1.0) for _ in range(16)]
        deployed = torchserve.script("deploy", "mine", "2.0")
        assert deployed.returncode == 0, deployed.stderr
        enough = len(answers) + 20
        until(lambda: len(answers) >= enough, "no answers after the switch")
    old, new = (200, {"y": [1, 1]}), (200, {"y": [2, 2]})
    assert [each for each in answers if each not in (old, new)] == []
    assert old in answers and answers[-1] == new
    assert all(future.result() in (old, new) for future in slow)
    assert list(torchserve.server.versions("mine")) == ["2.0"]
    assert len(torchserve.describe("mine")["workers"]) == 2
    assert "mine 2.0 is the default; 1.0 answers the requests that it got before" in deployed.stdout
    assert answer(torchserve, version="/1.0")[0] == 404


def test_the_old_version_answers_all_its_requests(torchserve, make):
    add(torchserve, make("2.0"))
    with ThreadPoolExecutor(8) as pool:
        deploying = pool.submit(torchserve.script, "deploy", "mine", "2.0")
        until(lambda: "2.0" in torchserve.server.versions("mine"), "no new version")
        # The queue of a single worker lasts until well after the switch.
        slow = [pool.submit(answer, torchserve, 3.0) for _ in range(6)]
        until(lambda: torchserve.describe("mine")["modelVersion"] == "2.0", "no switch")
        assert "1.0" in torchserve.server.versions("mine")
        assert not all(future.done() for future in slow)
        deployed = deploying.result()
    assert deployed.returncode == 0, deployed.stderr
    assert [future.result() for future in slow] == [(200, {"y": [1, 1]})] * 6
    assert list(torchserve.server.versions("mine")) == ["2.0"]


def is_registered(torchserve: TorchServe) -> bool:
    return "4.0" in torchserve.server.versions("mine")


def has_workers(torchserve: TorchServe) -> bool:
    described = torchserve.server.versions("mine").get("4.0")
    return described is not None and count_ready_workers(described) > 0


def is_default(torchserve: TorchServe) -> bool:
    return torchserve.describe("mine")["modelVersion"] == "4.0"


def interrupt(torchserve: TorchServe, number: int, stage: Callable[[TorchServe], bool]) -> None:
    """Begins to deploy 4.0, and ends the command with a signal once it has reached a stage."""
    # Tests that run in the background ignore signals, and so would the processes that they start.
    command = ["env", "--default-signal", sys.executable, "-m", "scripts.deploy", "mine", "4.0"]
    command += ["--home", str(torchserve.home)]
    deploying = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: stage(torchserve), stage.__name__)
    deploying.send_signal(number)
    # Not 0: then it would not have been interrupted.
    assert deploying.wait(TIMEOUT_S) in (128 + number, -number)


def test_an_interrupted_deploy_is_finished_or_rolled_back(torchserve, make):
    add(torchserve, make("4.0"))
    interrupted = (
        "mine: a deploy of 4.0 in place of 1.0 was interrupted; `make deploy MODEL=mine VERSION=4.0` finishes it"
    )
    for stage, number in ((is_registered, signal.SIGTERM), (has_workers, signal.SIGHUP)):
        # A deploy that can still clean up leaves nothing.
        interrupt(torchserve, number, stage)
        assert list(torchserve.server.versions("mine")) == ["1.0"]
        assert deploy_record.load_unfinished(torchserve.server) == []
        interrupt(torchserve, signal.SIGKILL, stage)
        assert sorted(torchserve.server.versions("mine")) == ["1.0", "4.0"]
        assert interrupted in torchserve.script("status").stdout
        if stage is is_registered:
            removed = torchserve.script("remove", "mine", "4.0")
            assert removed.returncode == 0, removed.stderr
            assert list(torchserve.server.versions("mine")) == ["1.0"]
            assert deploy_record.load_unfinished(torchserve.server) == []
        assert answer(torchserve) == (200, {"y": [1, 1]})
    with ThreadPoolExecutor(8) as pool:
        # The old version is busy until long after the switch, so the deploy has to wait for it.
        again = pool.submit(interrupt, torchserve, signal.SIGKILL, is_default)
        until(lambda: not is_registered(torchserve), "the removal of what was left behind")
        until(lambda: has_workers(torchserve), "another attempt")
        slow = [pool.submit(answer, torchserve, 3.0) for _ in range(4)]
        again.result()
        assert sorted(torchserve.server.versions("mine")) == ["1.0", "4.0"]
        assert interrupted in torchserve.script("status").stdout
        refused = torchserve.script("remove", "mine", "4.0")
        assert refused.stderr.startswith("error: mine 4.0 is the default version; `make deploy MODEL=mine VERSION=…` ")
        finished = torchserve.script("deploy", "mine", "4.0")
        assert finished.returncode == 0, finished.stderr
        assert [future.result() for future in slow] == [(200, {"y": [1, 1]})] * 4
    assert list(torchserve.server.versions("mine")) == ["4.0"]
    assert deploy_record.load_unfinished(torchserve.server) == []
    assert answer(torchserve) == (200, {"y": [4, 4]})


def test_a_model_is_removed_when_it_has_answered(torchserve, make):
    with ThreadPoolExecutor(2) as pool:
        before = taken(torchserve)
        slow = pool.submit(answer, torchserve, 3.0)
        until(lambda: taken(torchserve) > before, "no request")
        assert torchserve.script("remove", "mine", "7").stderr == "error: mine 7 is not served; there are: 1.0\n"
        removed = torchserve.script("remove", "mine")
        assert (removed.returncode, removed.stdout) == (0, "mine 1.0 is no longer served\n"), removed.stderr
        assert slow.result() == (200, {"y": [1, 1]})
    assert torchserve.server.models() == []
    assert torchserve.script("remove", "mine").stderr == "error: no model 'mine' is served; there are: none\n"


def test_a_version_that_stays_busy_stays(torchserve):
    before = taken(torchserve)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(answer, torchserve, 6.0)
        until(lambda: taken(torchserve) > before, "no request")
        with pytest.raises(OpserveError, match=r"^mine 1\.0 is not idle after 1 s and stays registered next to "):
            versions.drain(torchserve.server, "mine", "1.0", timeout=1)
        assert not slow.done()
        versions.drain(torchserve.server, "mine", "1.0", timeout=TIMEOUT_S)
        # Its answer has been sent, but over another connection.
        assert slow.result(timeout=2) == (200, {"y": [1, 1]})


def taken(torchserve: TorchServe) -> float:
    """Returns how many requests the server has taken for the model."""
    found = re.findall(r'^ts_inference_requests_total{.*"mine".*} (\S+)$', torchserve.metrics().text, re.MULTILINE)
    return sum(map(float, found))


def refused(torchserve: TorchServe, version: str) -> str:
    """Returns the error for a version that cannot be deployed; the old one is served as before."""
    failed = torchserve.script("deploy", "mine", version)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert answer(torchserve) == (200, {"y": [1, 1]})
    assert list(torchserve.server.versions("mine")) == ["1.0"], failed.stderr
    return failed.stderr.removeprefix("error: ")


def test_a_version_that_cannot_be_deployed_changes_nothing(torchserve, make, tmp_path):
    assert refused(torchserve, "2.0") == (
        f"{torchserve.model_store} holds no archive of mine 2.0; `make archive MODEL=mine VERSION=2.0` makes one\n"
    )
    assert refused(torchserve, "1.0") == "mine 1.0 is served already (`make status`); deploy another version\n"
    wrong = changed(make("2.0"), tmp_path, "sample/answer.json", b'{"y": [2, 3]}')
    add(torchserve, wrong)
    assert refused(torchserve, "2.0") == (
        "mine 2.0 does not answer its sample as mine@2.0.mar says it must\nmine 1.0 is served as before\n"
    )
    shutil.rmtree(tmp_path / "unpacked")
    broken = changed(make("3.0"), tmp_path, "branching.pt", b"no model")
    add(torchserve, broken)
    error = refused(torchserve, "3.0")
    assert error.startswith("mine 3.0 has 0 of 1 workers ready; a new one died while loading:\nTraceback ")
    assert "ModelError: branching.pt: not a TorchScript model" in error
    assert error.endswith("\nmine 1.0 is served as before\n")
    # A refused version does not prevent a good one.
    add(torchserve, make("2.0"))
    assert torchserve.script("deploy", "mine", "2.0").returncode == 0
    assert answer(torchserve) == (200, {"y": [2, 2]})


def test_a_server_without_the_model_api_says_how_to_get_one(make, tmp_path):
    server = TorchServe(tmp_path / "home", [make("1.0")])
    try:
        assert server.start().returncode == 0
        add(server, make("2.0"))
        assert refused(server, "2.0") == (
            "this server does not register or remove models; `make stop start MODEL_API=1` starts one that does\n"
            "mine 1.0 is served as before\n"
        )
        again = server.start("--model-api")
        assert again.returncode == 1
        assert again.stderr.startswith("error: it runs without the model API (pid ")
    finally:
        server.stop()


def test_a_handler_of_another_kind_is_refused(make, tmp_path):
    server = TorchServe(tmp_path / "home", [archives.echo(tmp_path)])
    body = {"body.json": b'{"values": [1]}'}
    (tmp_path / "new").mkdir()
    new = archives.make(tmp_path / "new", "echo", archives.ECHO, body, {"doubled": [2]}, version="2.0")
    try:
        assert server.start("--model-api").returncode == 0
        shutil.copy(new, server.model_store / "echo@2.0.mar")
        failed = server.script("deploy", "echo", "2.0")
        assert failed.stderr.startswith(
            "error: echo 1.0 does not report which worker answers, so there is no way to know "
        )
        assert list(server.server.versions("echo")) == ["1.0"]
    finally:
        server.stop()


def test_the_newest_version_is_the_default_of_the_next_start(make, tmp_path):
    server = TorchServe(tmp_path / "home", [make("1.0"), make("10.0"), make("9.0")])
    try:
        started = server.start()
        assert started.returncode == 0, started.stderr
        for version, number in (("", 10), ("/10.0", 10), ("/9.0", 9), ("/1.0", 1)):
            assert answer(server, version=version) == (200, {"y": [number, number]})
        shown = server.script("status").stdout
        assert [line.split()[1:3] for line in shown.splitlines() if line.startswith("mine ")] == [
            ["1.0", "1/1"],
            ["10.0", "(default)"],
            ["9.0", "1/1"],
        ]
    finally:
        server.stop()
