"""What a worker logs, in a form that the server cannot take for anything else.

TorchServe reads a worker's output line by line, and takes a line that begins with `[METRICS]` for a metric and one with
`[PID]` for the worker's number; one of a gigabyte it keeps in Java's memory. An exception may quote a request.
"""

from __future__ import annotations

import logging
import re

# Characters of one record; a traceback with its source lines takes a few thousand.
MAX_RECORD = 16_384
# Where Java ends a line, beside \n.
_OTHER_LINE_ENDS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MARK = re.compile(r"\s*(INFO > )?\[")
# The only one that speaks to the server by its log.
_TORCHSERVES_METRICS = "ts.metrics."


def make_harmless() -> None:
    """Has every record of this process written so, by the handlers that there are."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler.formatter, _Harmless):
            handler.setFormatter(_Harmless(handler.formatter or logging.Formatter()))


class _Harmless(logging.Formatter):
    """Stands for a formatter, and bounds and cleans what it gives.

    Lines after the first are indented. A first line that would begin as a line to the server does is indented too,
    unless it comes from TorchServe's own metrics. What cannot be printed is escaped.
    """

    def __init__(self, formatter: logging.Formatter):
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        text = self._formatter.format(record)
        if not text.isprintable():
            text = _printable_lines(text)
        elif len(text) > MAX_RECORD:
            text = _cut(text)
        if _MARK.match(text) and not record.name.startswith(_TORCHSERVES_METRICS):
            text = f"  {text}"
        return text


def _printable_lines(text: str) -> str:
    text = _OTHER_LINE_ENDS.sub("\n", _cut(text))
    return "\n  ".join("".join(map(_escaped, line)) for line in text.split("\n"))


def _escaped(char: str) -> str:
    return char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode("ascii")


def _cut(text: str) -> str:
    if len(text) <= MAX_RECORD:
        return text
    half = MAX_RECORD // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
