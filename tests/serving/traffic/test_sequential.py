"""The sequential tests keep their promise under peeking, and have the power to find something."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.traffic import mixture, sequential
from serving.traffic.sequential import Counts, log_e_difference, log_e_rate, log_likelihood, log_mixture

ALPHA = 0.05
LEVEL = math.log(1 / ALPHA)

counts = st.integers(0, 300).flatmap(lambda trials: st.builds(Counts, st.integers(0, trials), st.just(trials)))


def looks(
    rates: tuple[float, float], weight: float, answers: int, seed: int, every: int = 25
) -> Iterator[tuple[Counts, Counts]]:
    """Counts of both versions at every look, answers coming in one after the other."""
    random = np.random.default_rng(seed)
    on_canary = random.random(answers) < weight
    right = random.random(answers) < np.where(on_canary, rates[1], rates[0])
    canary, canary_right, all_right = np.cumsum(on_canary), np.cumsum(on_canary & right), np.cumsum(right)
    for index in range(every - 1, answers, every):
        n, s = int(canary[index]), int(canary_right[index])
        yield Counts(int(all_right[index]) - s, index + 1 - n), Counts(s, n)


def ever(log_e: Callable[[Counts, Counts], float], rates: tuple[float, float], weight: float, runs: int) -> float:
    """Share of experiments that are ever called decided, with a look after every 25 answers."""
    decided = sum(
        any(log_e(control, treatment) >= LEVEL for control, treatment in looks(rates, weight, 3000, seed))
        for seed in range(runs)
    )
    return decided / runs


def too_many(runs: int) -> float:
    """A share that a test of level ALPHA exceeds once in a thousand."""
    return ALPHA + 3.1 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("weight", [0.05, 0.5])
def test_equal_versions_are_rarely_told_apart_however_often_one_looks(rate: float, weight: float) -> None:
    runs = 100

    assert ever(mixture.log_e_equal, (rate, rate), weight, runs) <= too_many(runs)
    assert ever(log_e_difference, (rate, rate), weight, runs) <= too_many(runs)


def test_looking_at_an_ordinary_test_all_the_time_would_fail_this() -> None:
    def ordinary(control: Counts, treatment: Counts) -> float:
        pooled = (control.successes + treatment.successes) / (control.trials + treatment.trials)
        spread = math.sqrt(pooled * (1 - pooled) * (1 / control.trials + 1 / treatment.trials))
        return LEVEL if abs(treatment.rate - control.rate) > 1.96 * spread else 0.0

    assert ever(ordinary, (0.9, 0.9), 0.5, 100) > too_many(100)


def test_power() -> None:
    found = ever(mixture.log_e_equal, (0.90, 0.95), 0.5, 60)
    exact = ever(log_e_difference, (0.90, 0.95), 0.5, 60)

    assert found > 0.9
    assert 0.5 < exact <= found


def test_the_interval_holds_at_all_times_at_once() -> None:
    runs = 60
    missed = missed_exact = 0
    for seed in range(runs):
        pairs = list(looks((0.9, 0.93), 0.5, 1500, seed, every=50))
        intervals = [mixture.confidence_sequence(*pair, ALPHA) for pair in pairs]
        missed += not all(low <= 0.03 <= high for low, high in intervals)
        # The exact interval holds the differences that are not rejected.
        missed_exact += any(log_e_difference(*pair, margin=0.03) >= LEVEL for pair in pairs)

    assert missed / runs <= too_many(runs)
    assert missed_exact / runs <= too_many(runs)


def test_the_ends_of_the_exact_interval_are_where_rejection_begins() -> None:
    pair = Counts(930, 1000), Counts(880, 1000)
    low, high = sequential.confidence_sequence(*pair, ALPHA)

    for end, outwards in ((low, -1e-4), (high, 1e-4)):
        assert log_e_difference(*pair, margin=end - outwards) < LEVEL < log_e_difference(*pair, margin=end + outwards)


def test_one_rate_against_a_limit() -> None:
    random = np.random.default_rng(5)
    runs, rejected = 200, 0
    for _ in range(runs):
        slow = np.cumsum(random.random(2000) < 0.05)
        rejected += any(log_e_rate(Counts(int(slow[n]), n + 1), 0.05) >= LEVEL for n in range(9, 2000, 20))

    assert rejected / runs <= too_many(runs)
    assert log_e_rate(Counts(60, 200), 0.05) > LEVEL
    assert log_e_rate(Counts(0, 200), 0.05) <= 0


def test_every_order_of_two_answers_is_a_fair_bet() -> None:
    # The mean of the e-value under each rate, over all outcomes: exactly what makes it one.
    for rate in (0.1, 0.5, 0.9):
        for n, m in ((3, 4), (1, 6), (5, 5)):
            mean = 0.0
            for s in range(n + 1):
                for t in range(m + 1):
                    chance = math.comb(n, s) * math.comb(m, t) * rate ** (s + t) * (1 - rate) ** (n + m - s - t)
                    mean += chance * math.exp(log_e_difference(Counts(s, n), Counts(t, m)))
            assert mean <= 1 + 1e-9


@given(counts, counts)
@settings(deadline=None, max_examples=50)
def test_the_sides_of_a_difference(control: Counts, treatment: Counts) -> None:
    two = log_e_difference(control, treatment)
    greater = log_e_difference(control, treatment, alternative="greater")
    less = log_e_difference(control, treatment, alternative="less")

    assert math.isfinite(two)
    assert max(greater, less) == pytest.approx(two, abs=1e-9)
    assert two == pytest.approx(log_e_difference(treatment, control), abs=1e-9)


@given(counts, counts, st.floats(-0.9, 0.9))
@settings(deadline=None, max_examples=50)
def test_the_largest_likelihood_is_the_largest(control: Counts, treatment: Counts, margin: float) -> None:
    largest = log_mixture(control) + log_mixture(treatment) - log_e_difference(control, treatment, margin=margin)

    for step in range(101):
        rate = max(0.0, -margin) + step / 100 * (1 - abs(margin))
        other = min(max(rate + margin, 0.0), 1.0)
        assert log_likelihood(control, rate) + log_likelihood(treatment, other) <= largest + 1e-6


@given(counts, counts)
@settings(deadline=None, max_examples=30)
def test_intervals_hold_what_was_observed(control: Counts, treatment: Counts) -> None:
    difference = treatment.rate - control.rate
    for function in (mixture.confidence_sequence, sequential.confidence_sequence):
        low, high = function(control, treatment)
        assert -1 <= low <= difference + 1e-9 and difference - 1e-9 <= high <= 1
    low, high = sequential.rate_sequence(control)
    assert 0 <= low <= control.rate + 1e-9 and control.rate - 1e-9 <= high <= 1


def test_nothing_counted_says_nothing() -> None:
    nothing = Counts(0, 0)

    assert log_e_difference(nothing, nothing) == 0
    assert sequential.confidence_sequence(nothing, nothing) == (-1.0, 1.0)
    assert mixture.log_e_equal(nothing, Counts(5, 5)) == 0
    assert sequential.rate_sequence(nothing) == (0.0, 1.0)


def test_a_disaster_shows_at_once_and_stays_finite() -> None:
    log_e = log_e_difference(Counts(0, 500), Counts(20, 20), margin=0.005, alternative="greater")

    assert LEVEL < log_e < math.inf
    assert math.isfinite(log_e_difference(Counts(0, 10**7), Counts(10**7, 10**7)))


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (1, 0)])
def test_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to"):
        Counts(successes, trials)
