"""Answers in place of a model that does not load, so that its requests end instead of waiting for ever.

TorchServe keeps requests in a queue until a worker takes them, has no time-out for that, and gives a worker up that
has not loaded for five minutes. So a worker that has failed to load PATIENCE times comes up without the model, answers
every request 503, and ends after a while: TorchServe starts it again, and it tries to load again. That goes on for as
long as the server runs, with pauses that double. Standard library only: a damaged archive may have nothing else that
imports.
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

logger = logging.getLogger(__name__)

# A worker that fails less often ends, and its traceback is in the log: whoever starts or deploys it sees that at once.
PATIENCE = 3
# Seconds between two tries to load.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
# How soon a stand-in makes way for another worker of the model that has loaded.
LOOK_S = 1.0
ERROR_LENGTH = 400
SOCKET_OPTION = "--sock-name"


class Attempts:
    """How often one worker has tried in vain to load its model; kept beside the unpacked archive, not in it.

    A worker that scaling starts has another socket, and with it no failures: it tries at once.

    Args:
        folder: the unpacked archive.
        worker: what tells the workers of a model apart and stays when TorchServe starts one again.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self._path = folder.parent / f".{folder.name}.{worker}.load"
        self._serving = folder.parent / f".{folder.name}.serving"
        self.failures, self.last, self.error = 0, 0.0, ""
        self._held: int | None = None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(self._path.read_text())
            self.failures, self.last, self.error = int(state["failures"]), float(state["last"]), str(state["error"])

    @property
    def pause_s(self) -> float:
        """Seconds between the last try and the next."""
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(max(0, self.failures - PATIENCE), 10))

    @property
    def left_s(self) -> float:
        """Seconds until the next try; 0 when it is due, also when the clock was set back."""
        since = time.time() - self.last
        return self.pause_s - since if 0 <= since < self.pause_s else 0.0

    def wants_stand_in(self) -> bool:
        """Whether the requests should be answered by a stand-in for now: no worker of the model has loaded."""
        return self.failures >= PATIENCE and self.left_s > 0 and not self.others_serve()

    def begin(self) -> None:
        """Count a try before it is made: a worker that is killed has no chance to say so."""
        self.failures += 1
        self._failed("it ended while it loaded")

    def fail(self, error: BaseException) -> None:
        """Note why the try failed."""
        self._failed(f"{type(error).__name__}: {error}")

    def succeed(self) -> None:
        """Forget the failures, and say that a worker of this model has loaded, for as long as it lives."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._held = os.open(self._serving, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def stand_in(self) -> None:
        """Note that this process stands in, for whoever shows the model's state."""
        self._write(stands_in=os.getpid())

    def others_serve(self) -> bool:
        """Whether another worker of the model has loaded, and lives."""
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

    def _failed(self, error: str) -> None:
        self.last, self.error = time.time(), " ".join(error.split())[:ERROR_LENGTH]
        self._write()

    def _write(self, **more: Any) -> None:
        new = self._path.with_suffix(".new")
        # Without it a worker ends each time, as it would without this module.
        with contextlib.suppress(OSError):
            new.write_text(json.dumps({"failures": self.failures, "last": self.last, "error": self.error} | more))
            new.replace(self._path)


class StandIn:
    """Answers 503 to every request of a model until it is time to try loading it again; then the process ends."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._until = time.monotonic() + attempts.left_s
        attempts.stand_in()
        logger.error(
            "the model has not loaded %d times (%s); requests are answered 503, and in %.0f s it is tried again",
            attempts.failures,
            attempts.error,
            attempts.left_s,
        )
        threading.Thread(target=self._end_in_time, daemon=True).start()

    def handle(self, data: list[dict], context: Any) -> list[str]:
        """Answer a batch; what the reason is stands in the log and is nothing for clients."""
        left = max(1, round(self._until - time.monotonic()))
        message = "the model could not be loaded; it is tried again, and whoever runs the server sees why"
        body = {"error": {"code": int(HTTPStatus.SERVICE_UNAVAILABLE), "field": None, "message": message}}
        answers = []
        for index, parts in enumerate(data):
            if not parts and context.get_request_header(index, "describe") == "True":
                answers.append(json.dumps({"pid": os.getpid(), "error": message}))
                continue
            context.set_response_content_type(index, "application/json")
            context.set_response_header(index, "Retry-After", str(left))
            context.set_response_status(503, "Service Unavailable", index)
            answers.append(json.dumps(body))
        return answers

    def _end_in_time(self) -> None:
        while time.monotonic() < self._until and not self._attempts.others_serve():
            time.sleep(min(LOOK_S, max(0.0, self._until - time.monotonic())))
        logger.info("the stand-in ends, so that the model is tried again")
        logging.shutdown()
        # The main thread waits for requests, and would wait on.
        os._exit(1)


def attempts(folder: Path) -> Attempts | None:
    """The tries of this process's model; `None` where this is no worker of TorchServe's, which starts it again."""
    arguments = sys.argv
    if SOCKET_OPTION not in arguments[:-1] or not arguments[0].endswith("model_service_worker.py"):
        return None
    return Attempts(folder, Path(arguments[arguments.index(SOCKET_OPTION) + 1]).name.rpartition(".")[2])
