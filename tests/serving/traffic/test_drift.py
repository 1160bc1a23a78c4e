"""Distances between predictions, against scipy's own tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.traffic.drift import Shift, class_shift, confidence_shift

histograms = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 500), max_size=6)


def test_chi_squared_is_that_of_scipy() -> None:
    from scipy.stats import chi2_contingency

    old, new = {"a": 300, "b": 200, "c": 100}, {"a": 250, "b": 150, "c": 180}

    found = class_shift(old, new)

    assert found.p_value == pytest.approx(chi2_contingency([list(old.values()), list(new.values())]).pvalue)
    assert found.largest == "c"


def test_kolmogorov_smirnov_is_that_of_scipy() -> None:
    from scipy.stats import ks_2samp

    random = np.random.default_rng(2)
    old, new = random.integers(0, 40, 800), random.integers(3, 43, 600)

    found = confidence_shift(dict(enumerate(np.bincount(old))), dict(enumerate(np.bincount(new))))
    expected = ks_2samp(old, new, method="asymp")

    assert found.size == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.2)
    assert found.largest == "higher"


def test_small_samples_of_one_distribution_are_no_shift() -> None:
    random = np.random.default_rng(4)
    shares = np.full(50, 1 / 50)
    sizes = []
    for _ in range(50):
        old, new = (random.multinomial(400, shares) for _ in range(2))
        names = [str(number) for number in range(50)]
        sizes.append(class_shift(dict(zip(names, old, strict=True)), dict(zip(names, new, strict=True))).size)

    # Without the correction the mean would be about 49 / 200 = 0.245, at the limit of a "major shift".
    assert np.mean(sizes) < 0.05


def test_a_class_that_vanishes_is_a_large_but_finite_shift() -> None:
    found = class_shift({"a": 500, "b": 500}, {"a": 1000})

    assert 0.25 < found.size < 100
    assert found.p_value < 1e-6


def test_classes_too_rare_to_compare_are_merged() -> None:
    common = {"a": 1000, "b": 1000}
    rare, others = ({f"{name}-{number}": 1 for number in range(40)} for name in ("rare", "other"))

    assert class_shift({**common, **rare}, {**common, **others}).size < 0.02


@given(histograms)
@settings(deadline=None, max_examples=40)
def test_no_shift_from_itself(histogram: dict[str, int]) -> None:
    assert class_shift(histogram, histogram).size == pytest.approx(0, abs=1e-9)
    bins = {index: count for index, count in enumerate(histogram.values())}
    assert confidence_shift(bins, bins).size == 0


@given(histograms, histograms)
@settings(deadline=None, max_examples=40)
def test_always_finite_and_not_negative(old: dict[str, int], new: dict[str, int]) -> None:
    found = class_shift(old, new)

    assert 0 <= found.size < 1e3
    assert 0 <= found.p_value <= 1


def test_nothing_to_compare() -> None:
    assert class_shift({}, {"a": 1}) == Shift(0.0, 1.0)
    assert confidence_shift({}, {1: 1}) == Shift(0.0, 1.0)
