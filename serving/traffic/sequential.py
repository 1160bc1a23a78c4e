"""A sequential test of two success rates: look as often as you like, stop whenever you like.

Comes in: how many of how many answers of two versions succeeded. Goes out: evidence as an e-value, and a
confidence sequence for the difference. Called by the guards of a canary and by the A/B report.

The test. For one version with true rate p, the ratio of a Beta mixture of Bernoulli likelihoods to the likelihood
at p is a martingale that starts at 1 (Robbins, "Statistical methods related to the law of the iterated logarithm",
Ann. Math. Statist. 41, 1970; the beta-binomial mixture of Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Ann. Statist. 49, 2021). Versions answer different users, so the
product over the two versions is a martingale too, in whatever order their answers come. The e-value divides the
mixture by the largest likelihood under the null hypothesis, as universal inference does (Wasserman, Ramdas and
Balakrishnan, PNAS 117, 2020), so it is below such a martingale under every null. By Ville's inequality it ever
exceeds 1/alpha with probability at most alpha: with no correction for the number of looks, and at any sample size,
because nothing here is an approximation.

It assumes that answers are independent and that each version's rate stays the same while it is measured. Many
answers of one user count as if they came from many users.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Alternative = Literal["greater", "less", "two-sided"]
_PRIOR = 0.5  # Jeffreys' prior: the mixture loses half a log of the sample size against the best rate in hindsight.
_PRECISION = 1e-6  # Of an interval's ends: a ten-thousandth of a point.


@dataclass(frozen=True)
class Counts:
    """Successes among trials.

    Raises:
        ValueError: They are negative, or more successes than trials.
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        """Refuse impossible counts."""
        if not 0 <= self.successes <= self.trials:
            raise ValueError(f"{self.successes} successes of {self.trials} trials; expected 0 to {self.trials}.")

    @property
    def rate(self) -> float:
        """Observed rate; 0 without trials."""
        return self.successes / self.trials if self.trials else 0.0


def log_likelihood(counts: Counts, rate: float) -> float:
    """Log of rate^successes (1 - rate)^failures; minus infinity if the counts cannot happen."""
    failures = counts.trials - counts.successes
    if (counts.successes and rate <= 0) or (failures and rate >= 1):
        return -math.inf
    of_successes = counts.successes * math.log(rate) if counts.successes else 0.0
    return of_successes + (failures * math.log1p(-rate) if failures else 0.0)


def log_mixture(counts: Counts) -> float:
    """Log of the likelihood averaged over rates with the Beta prior."""
    a, b = counts.successes + _PRIOR, counts.trials - counts.successes + _PRIOR
    normalizer = 2 * math.lgamma(_PRIOR) - math.lgamma(2 * _PRIOR)
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b) - normalizer


def log_e_rate(counts: Counts, limit: float) -> float:
    """Log e-value against "the rate is at most `limit`"."""
    return log_mixture(counts) - log_likelihood(counts, min(counts.rate, limit))


def log_e_difference(
    control: Counts, treatment: Counts, *, margin: float = 0.0, alternative: Alternative = "two-sided"
) -> float:
    """Log e-value about the difference of two rates, treatment minus control.

    Args:
        control: The stable version.
        treatment: The canary.
        margin: The difference of the null hypothesis, -1 to 1.
        alternative: `greater` is evidence against "the difference is at most `margin`", `less` against "at least",
            `two-sided` against "equal".

    Returns:
        The log; at or above log(1/alpha) the null hypothesis is rejected at level alpha, at any time.
    """
    difference = treatment.rate - control.rate
    inside = (alternative == "greater" and difference <= margin) or (alternative == "less" and difference >= margin)
    if inside:
        largest = log_likelihood(control, control.rate) + log_likelihood(treatment, treatment.rate)
    else:
        largest = _largest_likelihood(control, treatment, margin)
    return log_mixture(control) + log_mixture(treatment) - largest


def _largest_likelihood(control: Counts, treatment: Counts, difference: float) -> float:
    """Log of the largest likelihood among rates with that difference."""
    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)

    def at(rate: float) -> float:
        return log_likelihood(control, rate) + log_likelihood(treatment, min(max(rate + difference, 0.0), 1.0))

    if difference == 0.0:
        trials = control.trials + treatment.trials
        return at((control.successes + treatment.successes) / trials if trials else 0.5)

    def slope(rate: float) -> float:
        return _slope(control, rate) + _slope(treatment, rate + difference)

    # The likelihood is log-concave, so its slope falls, and the largest value is where it changes sign.
    root = _bisect(slope, low, high)
    return max(at(root), at(low), at(high))


def _slope(counts: Counts, rate: float) -> float:
    failures = counts.trials - counts.successes
    rising = counts.successes / max(rate, 1e-300) if counts.successes else 0.0
    return rising - (failures / max(1.0 - rate, 1e-300) if failures else 0.0)


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that falls from positive to negative changes sign."""
    for _ in range(45):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def confidence_sequence(control: Counts, treatment: Counts, alpha: float = 0.05) -> tuple[float, float]:
    """Interval for the difference, treatment minus control, that holds at all times at once.

    Returns:
        Lower and upper end: all differences that the e-value does not reject at `alpha`.
    """
    threshold, center = math.log(1 / alpha), treatment.rate - control.rate

    def excess(difference: float) -> float:
        return threshold - log_e_difference(control, treatment, margin=difference)

    def edge(outer: float) -> float:
        # The e-value grows from the observed difference outwards.
        inner = center
        if excess(outer) >= 0:
            return outer
        while abs(outer - inner) > _PRECISION:
            middle = (outer + inner) / 2
            inner, outer = (middle, outer) if excess(middle) >= 0 else (inner, middle)
        return outer

    return edge(-1.0), edge(1.0)


def p_value(log_e: float) -> float:
    """A p-value that is valid at any time, from a log e-value."""
    return min(1.0, math.exp(-max(log_e, 0.0)))


def rate_sequence(counts: Counts, alpha: float = 0.05) -> tuple[float, float]:
    """Interval for one rate that holds at all times at once: lower and upper end."""
    threshold = math.log(1 / alpha)

    def inside(rate: float) -> bool:
        return log_mixture(counts) - log_likelihood(counts, rate) < threshold

    def edge(outer: float) -> float:
        if inside(outer):
            return outer
        inner = counts.rate
        while abs(outer - inner) > _PRECISION:
            middle = (outer + inner) / 2
            inner, outer = (middle, outer) if inside(middle) else (inner, middle)
        return outer

    return edge(0.0), edge(1.0)
