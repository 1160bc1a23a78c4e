from __future__ import annotations

import logging

import pytest

from transform.progress import LOGGER, report


def test_a_report_is_one_record_with_its_figures(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        report(3, 10, "epochs", loss=0.5)
    (record,) = caplog.records
    assert record.progress == {"done": 3, "total": 10, "unit": "epochs", "values": {"loss": 0.5}}  # type: ignore[attr-defined]
    assert record.getMessage() == "3/10 epochs loss=0.5"


def test_no_total_is_no_fraction(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        report(3, None, "images")
    assert caplog.records[0].getMessage() == "3 images"


def test_nothing_is_logged_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        report(3, 10, "images")
    assert not caplog.records
