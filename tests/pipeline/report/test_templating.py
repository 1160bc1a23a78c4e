"""How values are written: times, intervals, paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.report import templating


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (95, "1 min 35 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, words: str):
    assert templating.duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-11-22T11:03:17Z", "22 November 2026, 11:03 UTC"),
        ("2026-01-02T00:30:00+02:00", "1 January 2026, 22:30 UTC"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_moments(text: str, words: str):
    assert templating.moment(text) == words


def test_paths_within_and_outside_of_the_work_directory(tmp_path: Path):
    inside = tmp_path / "work" / "served" / "1"
    assert templating.within(tmp_path / "work", str(inside)) == "served/1"
    assert templating.within(tmp_path / "work", f"{tmp_path}/here/../work/log") == "log"
    assert templating.within(tmp_path / "work", str(tmp_path / "other")) == str(tmp_path / "other")
    assert templating.within(None, str(inside)) == str(inside)
    assert templating.within(tmp_path, "c.yaml") == "c.yaml"


def test_what_is_not_there_is_empty():
    assert templating.percent(None) == templating.signed(None) == templating.percent_range(None) == ""
    assert templating.metric(None, "accuracy") == "" and templating.metric(1234.0, "example_count") == "1,234"


def test_a_long_name_is_cut_and_a_short_one_is_not():
    assert templating.short("x" * 48) == "x" * 48
    assert templating.short("x" * 49) == "x" * 47 + "…"
