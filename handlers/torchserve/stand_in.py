"""Answers in place of a model that does not load, so that its requests end instead of waiting forever.

TorchServe queues requests until a worker takes them, has no time-out for that, and gives up a worker that has not
loaded for five minutes. Therefore a worker that has failed to load PATIENCE times comes up without the model, answers
every request with 503, and ends after a while: TorchServe starts it again, and it tries to load again. That continues
for as long as the server runs, with pauses that double. Standard library only: in a damaged archive nothing else may be
importable.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from handlers.torchserve.streams import end_stream

logger = logging.getLogger(__name__)

# A worker that fails less often ends with its traceback in the log, which a start or a deploy reports at once.
PATIENCE = 3
# Seconds between two attempts to load.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
# How soon a stand-in makes way once another worker of the model has loaded.
POLL_S = 1.0
ERROR_LENGTH = 400
SOCKET_OPTION = "--sock-name"


class Attempts:
    """The failed attempts of one worker to load its model, recorded next to the unpacked archive.

    A worker that scaling starts has another socket, and therefore no failures: it tries at once.

    Args:
        folder: the unpacked archive.
        worker: distinguishes the workers of a model, and stays the same when TorchServe restarts one.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self._path = folder.parent / f".{folder.name}.{worker}.load"
        self._serving = folder.parent / f".{folder.name}.serving"
        self.failures, self.last, self.error = 0, 0.0, ""
        self._lock: int | None = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(self._path.read_text())
            self.failures, self.last, self.error = int(state["failures"]), float(state["last"]), str(state["error"])

    @property
    def pause_s(self) -> float:
        """Seconds between the last attempt and the next."""
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(max(0, self.failures - PATIENCE), 10))

    @property
    def left_s(self) -> float:
        """Seconds until the next attempt; 0 if it is due, or if the clock was set back."""
        since = time.time() - self.last
        return self.pause_s - since if 0 <= since < self.pause_s else 0.0

    def needs_stand_in(self) -> bool:
        """Whether a stand-in should answer for now: the model fails to load, and no other worker has loaded it."""
        return self.failures >= PATIENCE and self.left_s > 0 and not self.another_serves()

    def begin(self) -> None:
        """Records a failure before the attempt: a worker that is killed could not do so later."""
        self.failures += 1
        self._record_failure("it ended while it loaded")

    def fail(self, error: BaseException) -> None:
        """Records why the attempt failed."""
        self._record_failure(f"{type(error).__name__}: {error}")

    def succeed(self) -> None:
        """Clears the failures, and marks the model as loaded for as long as this worker lives."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._lock = os.open(self._serving, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def record_stand_in(self) -> None:
        """Records that this process stands in, for commands that show the model's state."""
        self._write(stands_in=os.getpid())

    def another_serves(self) -> bool:
        """Whether another worker of the model has loaded it and is alive."""
        try:
            handle = os.open(self._serving, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _record_failure(self, error: str) -> None:
        self.last, self.error = time.time(), " ".join(error.split())[:ERROR_LENGTH]
        self._write()

    def _write(self, **more: Any) -> None:
        new = self._path.with_suffix(".new")
        # If it fails, the worker ends each time, as it would without this module.
        with contextlib.suppress(OSError):
            new.write_text(json.dumps({"failures": self.failures, "last": self.last, "error": self.error} | more))
            new.replace(self._path)


class StandIn:
    """Answers every request of a model with 503 until the next attempt to load it is due; then the process ends."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._until = time.monotonic() + attempts.left_s
        attempts.record_stand_in()
        logger.error(
            "the model failed to load %d times (%s); requests are answered 503, and the next attempt is in %.0f s",
            attempts.failures,
            attempts.error,
            attempts.left_s,
        )
        threading.Thread(target=self._end_in_time, daemon=True).start()

    def handle(self, data: list[dict], context: Any) -> list[str]:
        """Answers a batch; the reason is in the log, and not for clients."""
        left = max(1, round(self._until - time.monotonic()))
        message = "the model could not be loaded; loading is tried again, and the server's log says why it failed"
        body = {"error": {"code": int(HTTPStatus.SERVICE_UNAVAILABLE), "field": None, "message": message}}
        responses = []
        for index, parts in enumerate(data):
            if not parts and context.get_request_header(index, "describe") == "True":
                responses.append(json.dumps({"pid": os.getpid(), "error": message}))
                continue
            context.set_response_content_type(index, "application/json")
            context.set_response_header(index, "Retry-After", str(left))
            context.set_response_status(503, "Service Unavailable", index)
            end_stream(context, index)
            responses.append(json.dumps(body))
        return responses

    def _end_in_time(self) -> None:
        while time.monotonic() < self._until and not self._attempts.another_serves():
            time.sleep(min(POLL_S, max(0.0, self._until - time.monotonic())))
        logger.info("the stand-in ends, so that the model is loaded again")
        logging.shutdown()
        # The main thread waits for requests, and would go on waiting.
        os._exit(1)


def find_attempts(folder: Path) -> Attempts | None:
    """The attempts of this process; `None` unless it is a worker of TorchServe, which restarts it."""
    arguments = sys.argv
    if SOCKET_OPTION not in arguments[:-1] or not arguments[0].endswith("model_service_worker.py"):
        return None
    return Attempts(folder, Path(arguments[arguments.index(SOCKET_OPTION) + 1]).name.rpartition(".")[2])
