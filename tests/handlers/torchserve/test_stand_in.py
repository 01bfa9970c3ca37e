"""A stand-in replaces a worker that keeps failing to load; the attempts are counted, and the pauses bounded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from handlers.torchserve import stand_in
from handlers.torchserve.stand_in import FIRST_PAUSE_S, LONGEST_PAUSE_S, PATIENCE, Attempts

SERVE = """
import sys
from pathlib import Path
from handlers.torchserve.stand_in import Attempts
Attempts(Path(sys.argv[1]), "9001").succeed()
print("serving", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    unpacked = tmp_path / "models" / "0123abcd"
    unpacked.mkdir(parents=True)
    return unpacked


def fail(folder: Path, times: int, worker: str = "9000") -> Attempts:
    for _ in range(times):
        tried = Attempts(folder, worker)
        tried.begin()
        tried.fail(OSError("libmissing.so\ncannot be opened"))
    return Attempts(folder, worker)


def test_a_stand_in_comes_only_after_some_failures(folder: Path) -> None:
    assert not fail(folder, PATIENCE - 1).needs_stand_in()
    tried = fail(folder, 1)
    assert tried.needs_stand_in()
    assert tried.error == "OSError: libmissing.so cannot be opened"
    # A worker that scaling starts tries at once.
    assert not Attempts(folder, "9001").needs_stand_in()
    assert not list(folder.iterdir()), "nothing is written into the unpacked archive, whose files are checked"


def test_a_worker_that_is_killed_while_it_loads_has_failed_too(folder: Path) -> None:
    for _ in range(PATIENCE):
        Attempts(folder, "9000").begin()
    tried = Attempts(folder, "9000")
    assert tried.needs_stand_in()
    assert tried.error == "it ended while it loaded"


def test_a_model_that_loads_has_no_failures(folder: Path) -> None:
    fail(folder, PATIENCE).succeed()
    assert Attempts(folder, "9000").failures == 0


def test_there_is_no_stand_in_next_to_a_worker_that_serves(folder: Path) -> None:
    fail(folder, PATIENCE)
    serving = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert serving.stdout.readline() == "serving\n"
    assert not Attempts(folder, "9000").needs_stand_in()
    serving.kill()
    serving.communicate()
    assert Attempts(folder, "9000").needs_stand_in()


def test_the_pauses_double_up_to_a_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []
    for failures in (PATIENCE, PATIENCE + 1, PATIENCE + 2, PATIENCE + 9, 10**9):
        tried = Attempts(folder, "9000")
        tried.failures = failures
        pauses.append(tried.pause_s)
    assert pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    tried = fail(folder, PATIENCE)
    now = tried.last
    for shift in (-3600, 3600):  # a clock that was set back, and time that has passed
        monkeypatch.setattr(stand_in.time, "time", lambda shift=shift: now + shift)
        assert not tried.needs_stand_in()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"failures": "many", "last": 0, "error": ""}', "null"])
def test_a_damaged_record_counts_as_no_failures(folder: Path, content: str) -> None:
    (folder.parent / f".{folder.name}.9000.load").write_text(content)
    assert Attempts(folder, "9000").failures == 0


class Context:
    """The part of TorchServe's context that a stand-in uses."""

    def __init__(self, headers: list[dict[str, str]]) -> None:
        self.headers, self.sent = headers, {}

    def get_request_header(self, index: int, name: str) -> str | None:
        return self.headers[index].get(name)

    def get_all_request_header(self, index: int) -> dict[str, str]:
        return self.headers[index]

    def set_response_content_type(self, index: int, value: str) -> None:
        self.sent[index] = [value]

    def set_response_header(self, index: int, name: str, value: str) -> None:
        self.sent[index].append(f"{name}: {value}")

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        self.sent[index].append(code)


def test_every_request_is_answered_503_without_the_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in.threading, "Thread", lambda **_: type("Idle", (), {"start": lambda self: None})())
    standing = stand_in.StandIn(fail(folder, PATIENCE))
    context = Context([{"Host": "h"}, {"describe": "True"}, {"describe": "True"}, {"body": {"content-type": ""}}])
    first, described, forged, _ = standing.handle([{"body": b"{}"}, {}, {"body": b"{}"}, {"body": b"{}"}], context)
    assert json.loads(first)["error"]["code"] == 503
    assert "libmissing" not in first
    assert context.sent[0] == ["application/json", "Retry-After: 5", 503]
    assert json.loads(described)["pid"] == os.getpid()
    assert 1 not in context.sent
    # The mark of a description in a request that is not one.
    assert json.loads(forged)["error"]["code"] == 503
    # By gRPC; TorchServe would end the worker of a stream that does not end.
    assert "ts_stream_next: false" in context.sent[3]


def test_outside_torchserves_worker_nothing_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stand_in.find_attempts(folder) is None
    monkeypatch.setattr(sys, "argv", ["/x/ts/model_service_worker.py", "--sock-name", "/y/.ts.sock.9007"])
    stand_in.find_attempts(folder).begin()
    assert [path.name for path in folder.parent.glob(".*")] == [f".{folder.name}.9007.load"]
