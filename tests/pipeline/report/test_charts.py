"""The charts: the same text for the same figures, colors of the page, and words that hold the figures."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report import charts
from tests.pipeline.report.made_up import HISTORY


def test_a_chart_is_drawn_twice_the_same():
    assert charts.training(HISTORY, "loss") == charts.training(HISTORY, "loss")


def test_the_colors_follow_the_page():
    svg = charts.training(HISTORY, "loss").svg
    assert "var(--ink)" in svg and "var(--blue)" in svg and "var(--orange)" in svg
    assert not re.search(r"(?:fill|stroke): #0", svg)


def test_charts_of_one_page_share_no_names():
    drawn = [
        charts.training(HISTORY, "loss"),
        charts.training(HISTORY, "accuracy"),
        charts.reliability([(0.5, 0.4, 3), (0.9, 0.9, 7)], 0.02),
        charts.trials([{"score": 0.9, "width": 2.0}, {"score": 0.5, "width": 1.0}], "width"),
        charts.overlay(HISTORY, HISTORY[:2], "loss"),
    ]
    names = [name for chart in drawn if chart for name in set(re.findall(r'id="([^"]+)"', chart.svg))]
    assert len(names) > 50 and len(names) == len(set(names))


def test_the_words_hold_the_figures():
    words = charts.training(HISTORY, "accuracy").words
    assert "5 epochs" in words and "40.00%" in words and "88.00%" in words
    assert "from 2 to 0.4, on eval from 2.2 to 0.44" in charts.training(HISTORY, "loss").words


def test_two_runs_over_each_other_and_one_without_a_training():
    chart = charts.overlay(HISTORY, HISTORY[:2], "accuracy")
    assert "A ends at 0.88 after 5 epochs, B ends at 0.7 after 2 epochs" in chart.words
    assert "A, eval" in chart.svg and "B, train" in chart.svg
    assert "A, eval" not in charts.overlay([], HISTORY, "accuracy").svg


def test_trials_are_drawn_where_a_setting_was_varied():
    found = [{"score": 0.9, "rate": 0.001, "same": 1, "name": "x"}, {"score": 0.5, "rate": 0.1, "same": 1, "name": "y"}]
    chart = charts.trials(found, "rate")
    assert chart is not None and "2 trials by rate: the best reached 0.9 at 0.001" in chart.words
    assert "(log scale)" in chart.svg
    assert [charts.trials(found, name) for name in ("same", "name", "missing")] == [None] * 3
    assert charts.trials([], "rate") is None


def test_classes_of_equal_size_are_said_once():
    words = charts.classes({"train": {"a": 3, "b": 3}, "test": {"a": 1, "b": 1}}).words
    assert words == "Examples per class: 4 of each; train 6, test 2."


def test_of_very_many_classes_the_largest_and_smallest_are_drawn():
    chart = charts.classes({"train": {f"class {n}": n + 1 for n in range(100)}})
    assert "class 99" in chart.svg and "class 0<" in chart.svg and "class 50" not in chart.svg
    assert "40 largest and smallest of 100" in chart.words


@pytest.mark.parametrize("label", ["$\\frac$", "US$ and AU$", "a\x00b", "<b>&amp;", "日本", "$"])
def test_a_class_name_is_no_formula_and_no_markup(label: str):
    svg = charts.classes({"train": {label: 3, "other": 1}}).svg
    assert "\x00" not in svg and "<b>" not in svg and "text" in svg


@settings(max_examples=10)
@given(st.dictionaries(st.text(min_size=1, max_size=30), st.integers(0, 10**6), min_size=1, max_size=4))
def test_any_class_name_can_be_drawn(counts: dict[str, int]):
    svg = charts.classes({"train": counts}).svg
    assert svg.startswith("<svg") and "<script" not in svg.lower()


def test_a_single_epoch_and_a_single_bin_are_charts_too():
    assert "1 epoch " in charts.training(HISTORY[:1], "loss").words
    assert "are right" in charts.reliability([(1.0, 1.0, 1)], None).words
