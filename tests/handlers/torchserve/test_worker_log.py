"""No line that a worker logs can be taken for a metric or a process number, whatever it quotes."""

import io
import logging
import re

import pytest
from ts.metrics.caching_metric import CachingMetric

from handlers.torchserve import worker_log
from handlers.torchserve.worker_log import MAX_RECORD, install_safe_formatters

# What TorchServe's frontend looks for (WorkerLifeCycle of 0.12) after Java's Scanner has split the lines.
LINE_ENDS = "\r\n|[\n\r\u2028\u2029\x85]"
ADDRESSES_THE_SERVER = re.compile(r"^(INFO > )?(\[METRICS]|\[PID])")
LIE = "[METRICS]Requests.count:1|#Level:Host|#hostname:x,1"


@pytest.fixture
def log(monkeypatch):
    """The output of a root logger like a worker's."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    # Nothing of pytest's: xdist cannot send a captured log with surrogates.
    monkeypatch.setattr(root, "addHandler", lambda handler: None)
    level = root.level
    root.setLevel(logging.INFO)
    install_safe_formatters()
    install_safe_formatters()
    assert isinstance(handler.formatter._formatter, logging.Formatter)
    assert type(handler.formatter._formatter) is not worker_log._SafeFormatter
    yield stream
    root.setLevel(level)


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
@pytest.mark.parametrize("lie", [LIE, "[PID]99999999999999999999", f"INFO > {LIE}", "[PID]1"])
def test_nothing_quoted_addresses_the_server(log, end, lie):
    logging.getLogger("handlers.model").error("%s", f"{end}{lie}{end}{lie}")
    try:
        raise ValueError(f"x{end}{lie}")
    except ValueError:
        logging.getLogger("hooks").exception("failed")
    lines = re.split(LINE_ENDS, log.getvalue())
    assert not [line for line in lines if ADDRESSES_THE_SERVER.match(line)]
    assert "Traceback (most recent call last):" in log.getvalue()


def test_metrics_still_do(log):
    CachingMetric("Requests", "count", ["Level"]).add_or_update(1, ["Model"])
    assert ADDRESSES_THE_SERVER.match(log.getvalue())


def test_a_line_break_in_a_label_does_not_begin_a_second_metric(log):
    CachingMetric("Requests", "count", ["Level"]).add_or_update(1, [f"a\n{LIE}"])
    lines = re.split(LINE_ENDS, log.getvalue())
    assert len([line for line in lines if ADDRESSES_THE_SERVER.match(line)]) == 1


@pytest.mark.parametrize("char", ["k", "\n", "\ud800", "é"])
def test_a_record_is_bounded_and_can_be_written(log, char):
    logging.error("%s", char * (1 << 21))
    assert len(log.getvalue()) < 8 * MAX_RECORD
    log.getvalue().encode()


def test_plain_records_are_as_they_were(log):
    logging.info("loaded %s\tin %d ms", "größe", 5)
    assert log.getvalue() == "loaded größe\tin 5 ms\n"
