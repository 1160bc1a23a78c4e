"""Counts of what a version answered, small enough to keep for ever and to add up over processes.

Comes in: single answers. Goes out: a `Tally` with rates, quantiles and histograms, as JSON. Called by
`serving.traffic.outcomes` and by whoever judges a canary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A quantile read from bins of this ratio is at most 2 % off.
_LATENCY_RATIO = math.log(1.02)
_CONFIDENCE_STEP = 0.05  # In log-odds: confidences crowd near 1, where steps of the probability would be too coarse.
_CONFIDENCE_LIMIT = 14.0
_MAX_CLASSES = 10_000
_OTHER_CLASS = "other"
_KEPT_REQUESTS = 5


@dataclass
class Tally:
    """What one version did.

    Attributes:
        answers: How many requests it was asked.
        failures: How many of them failed.
        statuses: Answers by status code.
        latency: Answers by bin of the time they took; failed ones too, because a time-out is felt as time.
        classes: Successful answers by predicted class.
        confidences: Successful answers by bin of their confidence.
        right: Answers that users called right.
        wrong: Answers that users called wrong.
        agreed: Shadow answers with the same class as the answer that the user got.
        disagreed: Shadow answers with another one.
        failed_requests: The last few ids of failed requests, to look them up in the log.
    """

    answers: int = 0
    failures: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    confidences: Counter[int] = field(default_factory=Counter)
    right: int = 0
    wrong: int = 0
    agreed: int = 0
    disagreed: int = 0
    failed_requests: list[str] = field(default_factory=list)

    def answer(
        self,
        ok: bool,
        status: int,
        milliseconds: float,
        class_id: int | None = None,
        confidence: float | None = None,
        request_id: str = "",
    ) -> None:
        """Count one answer."""
        self.answers += 1
        self.statuses[str(status)] += 1
        self.latency[_latency_bin(milliseconds)] += 1
        if not ok:
            self.failures += 1
            if request_id:
                self.failed_requests = [*self.failed_requests, request_id][-_KEPT_REQUESTS:]
            return
        if class_id is not None:
            name = str(class_id)
            self.classes[name if name in self.classes or len(self.classes) < _MAX_CLASSES else _OTHER_CLASS] += 1
        if confidence is not None and not math.isnan(confidence):
            self.confidences[_confidence_bin(confidence)] += 1

    def add(self, other: Tally) -> None:
        """Add up."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTERS:
            getattr(self, name).update(getattr(other, name))
        self.failed_requests = [*self.failed_requests, *other.failed_requests][-_KEPT_REQUESTS:]

    @property
    def failure_rate(self) -> float:
        """Share of failed answers; 0 without answers."""
        return self.failures / self.answers if self.answers else 0.0

    def latency_quantile(self, quantile: float) -> float | None:
        """Milliseconds within which that share of the answers came; None without answers."""
        wanted, seen = quantile * sum(self.latency.values()), 0
        for index in sorted(self.latency):
            seen += self.latency[index]
            if seen >= wanted:
                return math.exp((index + 0.5) * _LATENCY_RATIO)
        return None

    def slower_than(self, milliseconds: float) -> int:
        """How many answers took longer; those in the bin of that time are given the benefit of the doubt."""
        limit = _latency_bin(milliseconds)
        return sum(count for index, count in self.latency.items() if index > limit)

    def to_json(self) -> dict[str, Any]:
        """Plain values; everything that is 0 or empty is left out."""
        values = {name: getattr(self, name) for name in (*_NUMBERS, *_COUNTERS, "failed_requests")}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tally:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            tally = cls()
            for name in _NUMBERS:
                setattr(tally, name, int(values.get(name, 0)))
            for name in _COUNTERS:
                of_bins = name in ("latency", "confidences")
                counts = {int(key) if of_bins else str(key): int(n) for key, n in values.get(name, {}).items()}
                setattr(tally, name, Counter(counts))
            tally.failed_requests = [str(item) for item in values.get("failed_requests", [])][-_KEPT_REQUESTS:]
        except (TypeError, AttributeError) as error:
            raise ValueError(f"no tally: {error}") from error
        return tally


_NUMBERS = ("answers", "failures", "right", "wrong", "agreed", "disagreed")
_COUNTERS = ("statuses", "latency", "classes", "confidences")


def _latency_bin(milliseconds: float) -> int:
    bounded = min(max(milliseconds, 0.01), 3.6e6) if not math.isnan(milliseconds) else 3.6e6
    return math.floor(math.log(bounded) / _LATENCY_RATIO)


def _confidence_bin(confidence: float) -> int:
    if confidence <= 0:
        odds = -_CONFIDENCE_LIMIT
    elif confidence >= 1:
        odds = _CONFIDENCE_LIMIT
    else:
        odds = math.log(confidence) - math.log1p(-confidence)
    return round(min(max(odds, -_CONFIDENCE_LIMIT), _CONFIDENCE_LIMIT) / _CONFIDENCE_STEP)
