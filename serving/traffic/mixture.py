"""The A/B test: which of two success rates is larger, and how sure that is, at any time.

Comes in: how many of how many answers of two versions were right. Goes out: an e-value and a confidence sequence for
the difference. Called by the A/B report.

This is the mixture sequential probability ratio test with a normal prior on the difference (Robbins 1970; Johari,
Koomen, Pekelis and Walsh, "Always valid inference: continuous monitoring of A/B tests", Operations Research 70,
2022), in the form for estimated variances whose validity Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas prove
("Time-uniform central limit theory and asymptotic confidence sequences", Ann. Statist. 52, 2024). It needs about half
of the answers that the exact test of `serving.traffic.sequential` needs, and holds in the limit of many answers, so it
says nothing before there are some of each kind. Automatic decisions rest on the exact one.
"""

from __future__ import annotations

import math

from serving.traffic.sequential import Counts

_EFFECT = 0.05  # Standard deviation of the prior: a typical difference between two versions of a classifier.
_LEAST_OF_EACH = 10  # Right and wrong answers of both versions together, below which no normal law holds.


def enough(control: Counts, treatment: Counts) -> bool:
    """Whether there are enough answers of each kind for the test to speak."""
    successes = control.successes + treatment.successes
    failures = control.trials + treatment.trials - successes
    of_each = min(control.trials, treatment.trials)
    return min(successes, failures, of_each) >= _LEAST_OF_EACH


def log_e_equal(control: Counts, treatment: Counts) -> float:
    """Log e-value against "the rates are equal"; 0 as long as there is not enough to say."""
    if not enough(control, treatment):
        return 0.0
    pooled = (control.successes + treatment.successes) / (control.trials + treatment.trials)
    variance = pooled * (1 - pooled) * (1 / control.trials + 1 / treatment.trials)
    return _log_mixture(treatment.rate - control.rate, variance)


def _log_mixture(difference: float, variance: float) -> float:
    whole = variance + _EFFECT**2
    return 0.5 * math.log(variance / whole) + difference**2 * _EFFECT**2 / (2 * variance * whole)


def confidence_sequence(control: Counts, treatment: Counts, alpha: float = 0.05) -> tuple[float, float]:
    """Interval for the difference, treatment minus control, that holds at all times at once; wide at first."""
    if not enough(control, treatment):
        return -1.0, 1.0
    center = treatment.rate - control.rate
    # A rate of exactly 0 or 1 must not pass for certainty.
    variance = _variance(control) + _variance(treatment)
    whole = variance + _EFFECT**2
    logs = math.log(1 / alpha) + 0.5 * math.log(whole / variance)
    reach = math.sqrt(2 * variance * whole / _EFFECT**2 * logs)
    return max(center - reach, -1.0), min(center + reach, 1.0)


def _variance(counts: Counts) -> float:
    smoothed = (counts.successes + 1) / (counts.trials + 2)
    return smoothed * (1 - smoothed) / counts.trials
