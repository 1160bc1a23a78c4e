"""The A/B report: which version is better, and how sure that is.

Comes in: the state and what was counted. Goes out: an `ABReport` as data and JSON; at the end of a rollout it is kept
in `STATE_DIR/reports/<rollout>.json`. Called by the commands, the gateway and the controller.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from serving.durable import write_durably
from serving.traffic import mixture, sequential
from serving.traffic.drift import class_shift, confidence_shift
from serving.traffic.outcomes import Evidence, gather
from serving.traffic.sequential import Counts
from serving.traffic.state import TrafficState
from serving.traffic.tallies import Tally

REPORTS_FOLDER = "reports"
_LOG = logging.getLogger("slipway.serving")
Winner = Literal["stable", "canary", "undecided"]


@dataclass(frozen=True)
class Arm:
    """What one version did; times in milliseconds, None where nothing was measured."""

    version: int | None
    answers: int
    failures: int
    failure_rate: float
    p50: float | None
    p95: float | None
    p99: float | None
    right: int
    wrong: int
    accuracy: float | None


@dataclass(frozen=True)
class Comparison:
    """Canary minus stable, for one rate.

    Attributes:
        difference: Observed difference; None if one of them has no answers.
        low: Lower end of the confidence sequence.
        high: Upper end.
        e_value_log10: Evidence against equal rates; 2 is a hundredfold.
        p_value: Valid at any time, however often one looks.
        winner: Which is better, at the confidence of the report.
        text: The same in words.
    """

    difference: float | None
    low: float
    high: float
    e_value_log10: float
    p_value: float
    winner: Winner
    text: str


@dataclass(frozen=True)
class Agreement:
    """How often the canary's shadow answers named the class that the user was told."""

    agreed: int
    compared: int
    rate: float | None
    low: float
    high: float


@dataclass(frozen=True)
class ABReport:
    """All that is known about two versions.

    Attributes:
        model: Name of the model.
        rollout: Which rollout.
        created: UTC, ISO 8601.
        confidence: Of all intervals, such as 0.95.
        weight: Share of the users on the canary.
        stable: The stable version.
        canary: The canary.
        shadow: The canary's answers that nobody saw.
        feedback: Share of answers called right by users; the main question.
        errors: Share of failed answers.
        agreement: Of the shadow answers.
        class_psi: Population stability index of the predicted classes.
        confidence_distance: Kolmogorov and Smirnov's D of the confidences.
        headline: The answer in one sentence.
    """

    model: str
    rollout: str
    created: str
    confidence: float
    weight: float
    stable: Arm
    canary: Arm
    shadow: Arm
    feedback: Comparison
    errors: Comparison
    agreement: Agreement
    class_psi: float
    confidence_distance: float
    headline: str

    def to_json(self) -> str:
        """JSON with an indent; never NaN."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def build(state: TrafficState, evidence: Evidence, *, confidence: float = 0.95, now: float) -> ABReport:
    """Make the report of the present rollout.

    Args:
        state: The state.
        evidence: Counts of the whole rollout.
        confidence: Of the intervals and the verdicts.
        now: Unix seconds.
    """
    alpha = 1 - confidence
    stable, canary, shadow = evidence.stable, evidence.canary, evidence.shadow
    said = [Counts(each.right, each.right + each.wrong) for each in (stable, canary)]
    failed = [Counts(each.failures, each.answers) for each in (stable, canary)]
    feedback = _compare_feedback(said[0], said[1], alpha)
    compared = shadow.agreed + shadow.disagreed
    agreement = Counts(shadow.agreed, compared)
    low, high = sequential.rate_sequence(agreement, alpha)
    # Without users on the canary its shadow answers are what there is to compare.
    predictions = canary if canary.answers else shadow
    return ABReport(
        model=state.model,
        rollout=state.rollout,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        confidence=confidence,
        weight=state.weight,
        stable=_arm(state.stable, stable),
        canary=_arm(state.canary, canary),
        shadow=_arm(state.canary, shadow),
        feedback=feedback,
        errors=_compare_errors(failed[0], failed[1], alpha),
        agreement=Agreement(shadow.agreed, compared, agreement.rate if compared else None, low, high),
        class_psi=class_shift(stable.classes, predictions.classes).size,
        confidence_distance=confidence_shift(stable.confidences, predictions.confidences).size,
        headline=_headline(state, feedback, confidence),
    )


def keep(state_dir: str | os.PathLike[str], state: TrafficState) -> None:
    """Write the report of a rollout that ends; a failure is logged only, it must not keep a rollback from working."""
    try:
        folder = Path(state_dir) / REPORTS_FOLDER
        folder.mkdir(exist_ok=True)
        made = build(state, gather(state_dir, state), now=time.time())
        write_durably(folder / f"{state.rollout}.json", made.to_json() + "\n")
    except (OSError, ImportError) as error:
        _LOG.warning("the report of rollout %s could not be kept: %s", state.rollout, error)


def kept(state_dir: str | os.PathLike[str], rollout: str) -> ABReport | None:
    """The report of a rollout that has ended; None if there is none that can be read."""
    try:
        values = json.loads((Path(state_dir) / REPORTS_FOLDER / f"{rollout}.json").read_text("utf-8"))
        for kind, names in ((Arm, ("stable", "canary", "shadow")), (Comparison, ("feedback", "errors"))):
            values |= {name: kind(**values[name]) for name in names}
        return ABReport(**{**values, "agreement": Agreement(**values["agreement"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _arm(version: int | None, tally: Tally) -> Arm:
    said = tally.right + tally.wrong
    p50, p95, p99 = (tally.latency_quantile(quantile) for quantile in (0.5, 0.95, 0.99))
    return Arm(
        version,
        tally.answers,
        tally.failures,
        tally.failure_rate,
        p50,
        p95,
        p99,
        tally.right,
        tally.wrong,
        tally.right / said if said else None,
    )


def _compare_feedback(control: Counts, treatment: Counts, alpha: float) -> Comparison:
    log_e = mixture.log_e_equal(control, treatment)
    low, high = mixture.confidence_sequence(control, treatment, alpha)
    return _comparison(control, treatment, alpha, log_e, (low, high), "right answers", more_is_better=True)


def _compare_errors(control: Counts, treatment: Counts, alpha: float) -> Comparison:
    # Errors are rare, so only the exact test is to be trusted.
    log_e = sequential.log_e_difference(control, treatment)
    interval = sequential.confidence_sequence(control, treatment, alpha)
    return _comparison(control, treatment, alpha, log_e, interval, "failed answers", more_is_better=False)


def _comparison(
    control: Counts,
    treatment: Counts,
    alpha: float,
    log_e: float,
    interval: tuple[float, float],
    what: str,
    *,
    more_is_better: bool,
) -> Comparison:
    p_value = sequential.p_value(log_e)
    if not control.trials or not treatment.trials:
        return Comparison(None, -1.0, 1.0, 0.0, 1.0, "undecided", f"no {what} to compare yet")
    difference = treatment.rate - control.rate
    winner: Winner = "undecided"
    if log_e >= math.log(1 / alpha):
        winner = "canary" if (difference > 0) == more_is_better else "stable"
    low, high = interval
    text = (
        f"{what}: canary {treatment.rate:.2%} of {treatment.trials}, stable {control.rate:.2%} of {control.trials}; "
        f"difference {100 * difference:+.2f} points, {1 - alpha:.0%} certain between {100 * low:+.2f} and "
        f"{100 * high:+.2f} (p = {p_value:.2g} at any time)"
    )
    return Comparison(difference, low, high, log_e / math.log(10), p_value, winner, text)


def _headline(state: TrafficState, feedback: Comparison, confidence: float) -> str:
    if feedback.difference is None:
        return "Not decided: users have not called answers of both versions right or wrong."
    if feedback.winner == "undecided":
        return f"Not decided at {confidence:.0%}: {feedback.text}."
    better, worse = (state.canary, state.stable) if feedback.winner == "canary" else (state.stable, state.canary)
    return f"Version {better} is better than version {worse}, {confidence:.0%} certain: {feedback.text}."
