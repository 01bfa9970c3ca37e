"""Formats what a worker logs so that the server cannot mistake it for anything else.

TorchServe reads a worker's output line by line, and takes a line that begins with `[METRICS]` for a metric and one with
`[PID]` for the worker's process number; a line of a gigabyte stays in Java's memory. An exception may quote a request.
"""

from __future__ import annotations

import logging
import re

from handlers.errors import escaped, shortened

# Characters of one record; a traceback with its source lines takes a few thousand.
MAX_RECORD = 16_384
# The characters at which Java ends a line, apart from \n.
_OTHER_LINE_ENDS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MARK = re.compile(r"\s*(INFO > )?\[")
# The only logger that addresses the server.
_TORCHSERVES_METRICS = "ts.metrics."


def install_safe_formatters() -> None:
    """Wraps the formatter of every handler of the root logger."""
    for handler in logging.getLogger().handlers:
        if not isinstance(handler.formatter, _SafeFormatter):
            handler.setFormatter(_SafeFormatter(handler.formatter or logging.Formatter()))


class _SafeFormatter(logging.Formatter):
    """Wraps a formatter, and bounds and cleans its output.

    Lines after the first are indented. So is a first line that would begin like a message to the server, unless it
    comes from TorchServe's own metrics. Characters that are not printable are escaped.
    """

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        text = self._formatter.format(record)
        if not text.isprintable():
            text = _printable_lines(text)
        elif len(text) > MAX_RECORD:
            text = shortened(text, MAX_RECORD)
        if _MARK.match(text) and not record.name.startswith(_TORCHSERVES_METRICS):
            text = f"  {text}"
        return text


def _printable_lines(text: str) -> str:
    lines = _OTHER_LINE_ENDS.sub("\n", shortened(text, MAX_RECORD)).split("\n")
    return "\n  ".join("".join(char if char == "\t" else escaped(char) for char in line) for line in lines)
