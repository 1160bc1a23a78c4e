"""Cron expressions: what is one, and when its time has come."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.continuous.cron import cron_problem, is_due


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize("text", ["* * * * *", "0 3 * * 1-5", "*/15 0-6 1,15 */2 0", "5  4 * * *", "0-30/10 * * * *"])
def test_well_formed(text):
    assert cron_problem(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 3 * *", "4 fields; expected minute"),
        ("60 * * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 0 0 * *", "'0' is no day of month"),
        ("0 0 * 13 *", "'13' is no month"),
        ("0 0 * * 7", "'7' is no day of week"),
        ("*/0 * * * *", "'\\*/0' is no minute"),
        ("5/2 * * * *", "'5/2' is no minute"),
        ("9-3 * * * *", "'9-3' is no minute"),
        ("a * * * *", "'a' is no minute"),
        ("1, * * * *", "'' is no minute"),
    ],
)
def test_what_is_wrong_is_said(text, message):
    import re

    assert re.search(message, cron_problem(text) or "")


def test_a_time_between_two_looks_is_due_once():
    daily = "0 3 * * *"
    assert is_due(daily, at("2026-03-01T02:59:30"), at("2026-03-01T03:00:10"))
    assert not is_due(daily, at("2026-03-01T03:00:10"), at("2026-03-01T03:00:40"))
    assert not is_due(daily, at("2026-03-01T03:00:10"), at("2026-03-02T02:59:59"))
    assert is_due(daily, at("2026-03-01T03:00:10"), at("2026-03-02T03:00:00"))


def test_a_clock_that_goes_back_is_never_due():
    assert not is_due("* * * * *", at("2026-03-02T00:00:00"), at("2026-03-01T00:00:00"))


@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 3 * 24 * 60))
def test_daily_means_once_in_any_24_hours(minute, hour, offset):
    start = at("2026-01-01T00:00:00") + 60 * offset
    assert is_due(f"{minute} {hour} * * *", start, start + 24 * 3600)


@given(st.text("0123456789*/-, ", max_size=20))
def test_anything_is_well_formed_or_has_a_reason(text):
    if cron_problem(text) is None:
        is_due(text, 0.0, 3600.0)
