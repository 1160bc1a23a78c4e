"""Counts that add up, survive JSON, and give quantiles within their promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.traffic.tallies import Tally

answers = st.tuples(
    st.booleans(),
    st.integers(100, 599),
    st.floats(0, 1e5),
    st.none() | st.integers(0, 20),
    st.none() | st.floats(0, 1),
    st.text(max_size=5),
)


def tally_of(items: list[tuple[bool, int, float, int | None, float | None, str]]) -> Tally:
    tally = Tally()
    for item in items:
        tally.answer(*item)
    return tally


@given(st.lists(answers, max_size=6), st.lists(answers, max_size=6))
@settings(deadline=None, max_examples=50)
def test_adding_up_is_counting_all(one: list, other: list) -> None:  # type: ignore[type-arg]
    added = tally_of(one)
    added.add(tally_of(other))

    assert added == tally_of([*one, *other])


@given(st.lists(answers, max_size=6))
@settings(deadline=None, max_examples=50)
def test_json_and_back(items: list) -> None:  # type: ignore[type-arg]
    tally = tally_of(items)

    assert Tally.from_json(json.loads(json.dumps(tally.to_json()))) == tally


def test_quantiles_are_within_two_percent() -> None:
    times = np.random.default_rng(3).lognormal(3, 0.8, 5000)
    tally = Tally()
    for time in times:
        tally.answer(True, 200, float(time))

    for quantile in (0.5, 0.95, 0.99):
        found = tally.latency_quantile(quantile)
        assert found is not None
        assert found == pytest.approx(np.quantile(times, quantile, method="inverted_cdf"), rel=0.02)
        assert tally.slower_than(found) == pytest.approx((1 - quantile) * 5000, abs=60)


@pytest.mark.parametrize("milliseconds", [0.0, -5.0, math.inf, math.nan])
def test_odd_times_are_counted(milliseconds: float) -> None:
    tally = Tally()
    tally.answer(True, 200, milliseconds)

    assert sum(tally.latency.values()) == 1


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 2.0])
def test_confidences_at_and_beyond_the_ends(confidence: float) -> None:
    tally = Tally()
    tally.answer(True, 200, 1.0, 0, confidence)

    assert sum(tally.confidences.values()) == 1


def test_not_a_number_is_no_confidence() -> None:
    tally = Tally()
    tally.answer(True, 200, 1.0, 0, math.nan)

    assert not tally.confidences


def test_high_confidences_are_told_apart() -> None:
    tally = Tally()
    for confidence in (0.99, 0.999, 0.9999):
        tally.answer(True, 200, 1.0, 0, confidence)

    assert len(tally.confidences) == 3


def test_failed_answers_say_nothing_about_classes() -> None:
    tally = Tally()
    tally.answer(False, 500, 1.0, 3, 0.9, "request")

    assert not tally.classes and not tally.confidences
    assert tally.failed_requests == ["request"]


def test_endless_classes_take_bounded_memory() -> None:
    tally = Tally()
    for number in range(10_050):
        tally.answer(True, 200, 1.0, number)

    assert len(tally.classes) <= 10_001
    assert tally.classes["other"] == 50


def test_nothing_is_no_quantile() -> None:
    assert Tally().latency_quantile(0.5) is None
    assert Tally().failure_rate == 0


@pytest.mark.parametrize("values", [{"answers": "x"}, {"latency": {"x": 1}}, {"latency": 5}, {"answers": None}])
def test_what_is_no_tally_is_an_error(values: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Tally.from_json(values)
