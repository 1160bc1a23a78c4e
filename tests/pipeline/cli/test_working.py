"""The sign of life of long commands, with and without a terminal."""

from __future__ import annotations

import io
import logging
import threading

import pytest

from pipeline.cli import working as module
from pipeline.cli.working import described, working
from transform.progress import LOGGER, report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_what_is_done_and_how_far_it_is():
    stream = Terminal()
    with working("measuring", stream):
        report(512, 1024, "images", loss=0.25)
    assert "measuring" in stream.getvalue()
    assert "512/1,024 images  loss 0.25" in stream.getvalue()


def test_elsewhere_nothing_is_written_by_short_work_and_a_line_now_and_then_by_long(monkeypatch):
    stream = io.StringIO()
    with working("measuring", stream):
        report(1, 2, "images")
    assert stream.getvalue() == ""
    monkeypatch.setattr(module, "_PLAIN_INTERVAL", -1.0)
    with working("measuring", stream):
        report(1, 2, "images")
    assert stream.getvalue() == "measuring: 1/2 images\n"


def test_long_work_without_reports_says_that_it_goes_on(monkeypatch):
    monkeypatch.setattr(module, "_SILENCE", 0.01)
    written = threading.Event()

    class Stream(io.StringIO):
        def flush(self) -> None:
            written.set()

    stream = Stream()
    with working("loading", stream):
        assert written.wait(60)
    assert stream.getvalue() == "loading: still at work\n"


def test_quiet_is_quiet():
    stream = Terminal()
    with working("measuring", stream, quiet=True):
        report(1, 2, "images")
    assert stream.getvalue() == ""


def test_the_logger_is_left_as_it_was_also_after_an_error():
    logger = logging.getLogger(LOGGER)
    before = logger.level, logger.handlers[:]
    with pytest.raises(ZeroDivisionError), working("measuring", io.StringIO()):
        raise ZeroDivisionError
    assert (logger.level, logger.handlers) == before


def test_a_report_without_a_total_or_figures_is_described():
    assert described({"done": 1024, "total": None, "unit": "images", "values": {}}) == "1,024 images"
