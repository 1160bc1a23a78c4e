"""How far the predictions of two versions lie apart.

Comes in: histograms of predicted classes and of confidences. Goes out: effect sizes and p-values. Called by the
guards of a canary and by the A/B report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_LEAST_EXPECTED = 5.0  # Cochran's rule for the chi-squared approximation.
_OTHER = "other"


@dataclass(frozen=True)
class Shift:
    """How far two distributions lie apart.

    Attributes:
        size: The effect: population stability index or Kolmogorov and Smirnov's D.
        p_value: Chance of a shift at least this large among samples of one distribution, for a single look.
        largest: The class, or the confidence, where they differ most.
    """

    size: float
    p_value: float
    largest: str = ""


def class_shift(reference: Mapping[str, int], current: Mapping[str, int]) -> Shift:
    """Compare histograms of classes: population stability index, with the p-value of a chi-squared test.

    The index is the symmetric Kullback-Leibler divergence of the two. Small samples make it large by chance, by
    about (classes - 1) (1/n + 1/m); that much is taken off, so that rare classes do not raise an alarm.

    Args:
        reference: Counts of the stable version.
        current: Counts of the canary.

    Returns:
        The shift; none if either is empty.
    """
    old, new = _pooled(reference, current)
    n, m = sum(old.values()), sum(new.values())
    if not n or not m or len(old) < 2:
        return Shift(0.0, 1.0)
    parts = {}
    for name in old:
        # Half a count more keeps a class that one of them never names from being an infinite shift.
        p, q = (old[name] + 0.5) / (n + 0.5 * len(old)), (new[name] + 0.5) / (m + 0.5 * len(old))
        parts[name] = (q - p) * math.log(q / p)
    by_chance = (len(old) - 1) * (1 / n + 1 / m)
    return Shift(max(sum(parts.values()) - by_chance, 0.0), _chi_squared(old, new), max(parts, key=lambda k: parts[k]))


def _pooled(reference: Mapping[str, int], current: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The same classes in both, those too rare to compare merged."""
    n, m = sum(reference.values()), sum(current.values())
    smaller = min(n, m) / max(n + m, 1)
    old: dict[str, int] = {}
    new: dict[str, int] = {}
    for name in sorted({*reference, *current}):
        a, b = reference.get(name, 0), current.get(name, 0)
        key = name if (a + b) * smaller >= _LEAST_EXPECTED else _OTHER
        old[key], new[key] = old.get(key, 0) + a, new.get(key, 0) + b
    return old, new


def _chi_squared(old: Mapping[str, int], new: Mapping[str, int]) -> float:
    from scipy.special import chdtrc

    n, m = sum(old.values()), sum(new.values())
    statistic = sum(
        (old[name] - (old[name] + new[name]) * n / (n + m)) ** 2 / ((old[name] + new[name]) * n / (n + m))
        + (new[name] - (old[name] + new[name]) * m / (n + m)) ** 2 / ((old[name] + new[name]) * m / (n + m))
        for name in old
        if old[name] + new[name]
    )
    return float(chdtrc(len(old) - 1, statistic))


def confidence_shift(reference: Mapping[int, int], current: Mapping[int, int]) -> Shift:
    """Compare histograms of confidences: Kolmogorov and Smirnov's D, with its asymptotic p-value.

    Args:
        reference: Counts of the stable version by bin; a higher bin is a higher confidence.
        current: Counts of the canary.

    Returns:
        The shift, with the word `lower` or `higher` for the canary's confidence; none if either is empty. Bins can
        only make the distance smaller.
    """
    n, m = sum(reference.values()), sum(current.values())
    if not n or not m:
        return Shift(0.0, 1.0)
    distance, below_old, below_new = 0.0, 0, 0
    for index in sorted({*reference, *current}):
        below_old += reference.get(index, 0)
        below_new += current.get(index, 0)
        gap = below_new / m - below_old / n
        distance = gap if abs(gap) > abs(distance) else distance
    from scipy.special import kolmogorov

    return Shift(
        abs(distance),
        float(kolmogorov(math.sqrt(n * m / (n + m)) * abs(distance))),
        "lower" if distance > 0 else "higher",
    )
