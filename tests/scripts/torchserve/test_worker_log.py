"""The logs show why a worker died, even if the server stopped reading before the worker had written it."""

from pathlib import Path

import pytest

from scripts.torchserve import worker_log
from scripts.torchserve.worker_log import LogMark

WORKER, OTHER = "W-9000-mine_1.0", "W-9001-other_1.0"
STARTED = ["s_name_part0=/tmp/.ts.sock, s_name_part1=9000, pid=7", "Listening on port: /tmp/.ts.sock.9000"]
TRACEBACK = ["Traceback (most recent call last):", '  File "handler.py", line 1, in initialize', "OSError: no model"]
DIED = "Backend worker process died."


class Logs:
    """The two logs of a server, written as TorchServe writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("ts_log.log", "model_log.log"):
            (folder / name).write_text("2026-01-01T00:00:00,000 [INFO ] main x - before\n")
        self.mark = LogMark(folder)

    def write(self, worker: str, *lines: str) -> None:
        with (self.folder / "model_log.log").open("a") as file:
            file.writelines(f"2026-01-01T00:00:00,000 [INFO ] {worker}-stdout MODEL_LOG - {line}\n" for line in lines)

    def end(self, worker: str) -> None:
        with (self.folder / "ts_log.log").open("a") as file:
            name = f"{worker}-stdout org.pytorch.serve.wlm.WorkerLifeCycle"
            file.write(f"2026-01-01T00:00:00,000 [INFO ] {name} - Stopped Scanner - {worker}-stdout\n")


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logs:
    monkeypatch.setattr(worker_log, "_READ_WITHIN_S", 0.2)
    return Logs(tmp_path)


def test_the_traceback_of_the_first_try_is_returned(logs: Logs) -> None:
    logs.write(WORKER, *STARTED, DIED, *TRACEBACK)
    logs.write(OTHER, *STARTED, *TRACEBACK[:1], "ValueError: of another")
    logs.end(WORKER)
    logs.write(WORKER, *STARTED, DIED, *TRACEBACK[:2], "OSError: the second time")
    logs.end(WORKER)
    assert logs.mark.last_output(WORKER) == "\n".join(TRACEBACK)


def test_a_try_that_was_not_read_to_its_end_is_replaced_by_the_next(logs: Logs) -> None:
    logs.write(WORKER, *STARTED)
    logs.end(WORKER)
    logs.write(WORKER, *STARTED, DIED, *TRACEBACK)
    logs.end(WORKER)
    assert logs.mark.last_output(WORKER) == "\n".join(TRACEBACK)


def test_the_rest_of_a_traceback_is_waited_for(logs: Logs) -> None:
    logs.write(WORKER, *STARTED, DIED, *TRACEBACK[:1])
    assert logs.mark.last_output(WORKER) == "\n".join([*STARTED, DIED, TRACEBACK[0]])


def test_without_a_traceback_the_last_lines_are_returned(logs: Logs) -> None:
    logs.write(WORKER, *STARTED, "Killed")
    logs.end(WORKER)
    assert logs.mark.last_output(WORKER, lines=2) == f"{STARTED[1]}\nKilled"
    assert logs.mark.last_output(OTHER) == "(it wrote nothing)"


def test_the_last_error_of_a_models_workers_is_one_line(logs: Logs) -> None:
    assert worker_log.last_error(logs.folder, "mine", "1.0") is None
    logs.write(WORKER, *STARTED, *TRACEBACK)
    logs.write(OTHER, TRACEBACK[0], "ValueError: of another")
    assert worker_log.last_error(logs.folder, "mine", "1.0") == "OSError: no model"
    logs.write(WORKER, *TRACEBACK, "", "During handling of the above exception, another exception occurred:", "")
    logs.write(WORKER, *TRACEBACK[:2], "RuntimeError: " + "long " * 1000, "said afterwards")
    last = worker_log.last_error(logs.folder, "mine", "1.0")
    assert last.startswith("RuntimeError: long")
    assert len(last) <= 400
    assert worker_log.last_error(logs.folder, "mine", "2.0") is None
    assert worker_log.last_error(logs.folder / "gone", "mine", "1.0") is None
