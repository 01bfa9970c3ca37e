"""How servers are started, what belongs to them, and the same work without a server."""

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from archive.repository import ROOT
from benchmarks.common import workloads
from benchmarks.common.responses import WrongResponse
from benchmarks.serving import environments, in_process
from benchmarks.serving.goals import DIGITS, TINY
from benchmarks.serving.peer_servers import PEER_SERVERS, encode_msgpack
from benchmarks.serving.processes import Processes, age_s
from benchmarks.serving.servers import PeerServer, ServerFailed


def read_pins(path: Path) -> dict[str, str]:
    """Name -> version."""
    return dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)", path.read_text(), re.MULTILINE))


def test_every_peer_has_its_program_and_its_pin() -> None:
    for server in PEER_SERVERS:
        assert server.distribution in read_pins(environments.requirements(server.environment)), server.name


def test_no_environment_contradicts_the_shared_constraints() -> None:
    shared = read_pins(environments.CONSTRAINTS)
    for name in (environments.COMMON, environments.BENTOML, environments.TRITON):
        pins = read_pins(environments.requirements(name))
        assert pins and {package: shared[package] for package in pins if package in shared}.items() <= pins.items()


def test_msgpack_is_encoded_as_the_format_has_it() -> None:
    # The format's own examples: fixmap, fixstr, bin 32, array 16, float 64.
    packed = encode_msgpack({"image": b"PN", "corners": numpy.array([[1.5]], "float32")})
    assert packed == (
        b"\x82\xa5image\xc6\x00\x00\x00\x02PN\xa7corners\xdc\x00\x01\xdc\x00\x01\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"
    )


def test_rates_in_one_process_are_those_of_right_responses(tmp_path: Path) -> None:
    sent = [workloads.tiny(), workloads.digits()]
    found = list(in_process.measure_rates(ROOT / "model_store", sent, tmp_path / "unpacked", 0.01))
    assert [(each.name, rate > 0) for each, rate in found] == [(TINY, True), (DIGITS, True)]
    wrong = replace(workloads.tiny(), outputs={"z": numpy.zeros(3, "float32")})
    with pytest.raises(WrongResponse):
        list(in_process.measure_rates(ROOT / "model_store", [wrong], tmp_path / "wrong", 0.01))


@pytest.mark.skipif(not in_process.PROGRAM.is_file(), reason="the native worker was not built; make ext says why")
def test_rates_in_one_process_of_cpp_are_those_of_right_responses(tmp_path: Path) -> None:
    sent = [workloads.tiny(), workloads.digits()]
    found = list(in_process.measure_native_rates(ROOT / "model_store", sent, tmp_path / "unpacked", 0.01))
    assert [(each.name, rate > 0) for each, rate in found] == [(TINY, True), (DIGITS, True)]
    wrong = replace(workloads.tiny(), outputs={"z": numpy.zeros(3, "float32")})
    with pytest.raises(WrongResponse):
        list(in_process.measure_native_rates(ROOT / "model_store", [wrong], tmp_path / "wrong", 0.01))


def test_only_processes_with_the_mark_belong_to_a_server(tmp_path: Path) -> None:
    ours, others = Processes(), Processes()
    sleeping = [sys.executable, "-c", "import signal; signal.pause()"]
    started = [processes.spawn(sleeping, tmp_path, tmp_path / "log", {}) for processes in (ours, others)]
    try:
        assert [process.pid for process in ours.find()] == [started[0].pid]
        assert ours.memory() > 2**20 and ours.memory(without=[started[0].pid]) == 0
        ours.terminate()
        assert ours.find() == [] and len(others.find()) == 1
    finally:
        ours.terminate()
        others.terminate()
        for process in started:
            process.wait()


def test_a_server_that_was_never_ready_fails_with_its_last_output(tmp_path: Path) -> None:
    server = PeerServer(name="mute", command=lambda python, port: [str(python), "-c", "raise SystemExit('no port')"])
    with (
        server.launch(["scaled_add"], tmp_path, Path(sys.executable), tmp_path) as running,
        pytest.raises(ServerFailed, match="it ended while it started: no port"),
    ):
        running.wait_ready(workloads.tiny())


def test_the_age_of_a_process_is_what_has_passed_since_it_was_started() -> None:
    begin = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        time.sleep(0.1)
        # The kernel counts in hundredths of a second.
        assert 0.08 < age_s(child.pid) <= time.monotonic() - begin + 0.02
        child.kill()
