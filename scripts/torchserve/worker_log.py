"""Reads from TorchServe's logs why a worker died."""

import re
import time
from pathlib import Path

# ts_log has this line for every worker that ended and will be tried again, whatever the reason.
_RETRY = re.compile(r"\] (W-\d+-\S+) org\.pytorch\.serve\.wlm\.\S+ - Retry worker: ")
# And this one once nothing more is read from a worker, also from one that will not be tried again.
_ENDED = re.compile(r"\] (W-\d+-\S+)-stdout org\.pytorch\.serve\.wlm\.\S+ - Stopped Scanner ")
# An archive that TorchServe refuses gets this line and the exception below it; the server goes on without it.
_REFUSED = re.compile(r" - Failed to load model: (.+)\n(.*)")
_WORKER_LINE = re.compile(r"^\S+ \[\w+ *\] (?P<thread>W-\d+-\S+)-(?:stdout|stderr) MODEL_LOG - (?P<text>.*)$")
_NAME = re.compile(r"^W-\d+-(?P<model>.+)_(?P<version>[^_]+)$")
_FIRST_LINE = "s_name_part0="
# TorchServe reads a worker's last lines shortly after its end; a second later it tries the worker again.
_READ_WITHIN_S = 5.0
_TAIL_BYTES = 1 << 20
_ERROR_LENGTH = 400
_SERVER_LINES = ("Backend worker process died.", "Failed to load model")


class LogMark:
    """The ends of the logs at one moment, so that only what is written afterwards is read."""

    def __init__(self, logs: Path) -> None:
        self._offsets = {logs / name: _size(logs / name) for name in ("ts_log.log", "model_log.log")}
        self.ts_log, self.model_log = self._offsets

    def text(self, path: Path) -> str:
        """Returns what was written to a log since the mark; the whole file if it was rotated."""
        try:
            with path.open("rb") as log:
                offset = self._offsets[path]
                log.seek(offset if offset <= _size(path) else 0)
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def dead_workers(self) -> list[str]:
        """Returns names such as `W-9000-digits_1.0` of the workers that ended and are tried again, oldest first."""
        return list(dict.fromkeys(_RETRY.findall(self.text(self.ts_log))))

    def ended_workers(self) -> list[str]:
        """Returns the names of all workers that ended since the mark, oldest first."""
        return list(dict.fromkeys(self._endings()))

    def _endings(self) -> list[str]:
        return _ENDED.findall(self.text(self.ts_log))

    def refused_archives(self) -> list[tuple[str, str]]:
        """Returns (archive, reason) of those that TorchServe could not open since the mark."""
        return _REFUSED.findall(self.text(self.ts_log))

    def last_output(self, worker: str, lines: int = 40) -> str:
        """Returns the traceback with which a worker first ended, or its last lines if it left none.

        Waits until the server has read what the worker wrote. Sometimes the server notices first that the connection is
        closed, and reads no further; then the next try of the same worker has the traceback.
        """
        deadline = time.monotonic() + _READ_WITHIN_S
        while True:
            ended = self._endings().count(worker)
            tries = self._tries(worker)
            for output in tries[:ended]:
                if traceback := _traceback(output):
                    return "\n".join(traceback)
            if time.monotonic() > deadline:
                first = tries[0] if tries else []
                return "\n".join(first[-lines:]) or "(it wrote nothing)"
            time.sleep(0.05)

    def _tries(self, worker: str) -> list[list[str]]:
        """Returns the lines that a worker wrote since the mark, for each time that it was started."""
        tries: list[list[str]] = []
        inside = False
        for line in self.text(self.model_log).splitlines():
            found = _WORKER_LINE.match(line)
            if found:
                inside = found["thread"] == worker
                if inside and (not tries or found["text"].startswith(_FIRST_LINE)):
                    tries.append([])
            text = found["text"] if found else line
            if inside and (found or not re.match(r"^\d{4}-", line)):
                tries[-1].append(text)
        return tries


def _traceback(output: list[str]) -> list[str]:
    start = next((i for i, text in enumerate(output) if text.startswith("Traceback ")), len(output))
    end = next((i for i in range(start, len(output)) if output[i].startswith(_SERVER_LINES)), len(output))
    return output[start:end]


def last_error(logs: Path, model: str, version: str) -> str | None:
    """Returns the last line of the last traceback that a worker of a model wrote, cut to a readable length."""
    try:
        with (logs / "model_log.log").open("rb") as log:
            log.seek(max(0, _size(logs / "model_log.log") - _TAIL_BYTES))
            text = log.read(_TAIL_BYTES).decode(errors="replace")
    except OSError:
        return None
    error, inside = None, False
    for line in text.splitlines():
        match = _WORKER_LINE.match(line)
        if not match or not match["thread"].endswith(f"-{model}_{version}"):
            continue
        output = match["text"]
        if output.startswith("Traceback "):
            inside = True
        elif inside and output and not output[0].isspace():
            error, inside = output, False
    return error and error[:_ERROR_LENGTH]


def model_name(worker: str) -> str:
    """Returns the model that a worker such as `W-9000-digits_1.0` serves."""
    found = _NAME.match(worker)
    return found["model"] if found else worker


def is_worker_of(worker: str, model: str, version: str) -> bool:
    """Whether a worker such as `W-9000-digits_1.0` serves this version of this model."""
    return re.fullmatch(rf"W-\d+-{re.escape(f'{model}_{version}')}", worker) is not None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
