"""Whether a canary may go on: errors, latency, drift and feedback against the stable version.

Comes in: the state and what was counted. Goes out: a `Judgement` with its reasons in words and numbers; nothing is
changed here. Called by the controller, by `promote` and by the status.

The risk of a false alarm, `Guards.significance`, is for the whole rollout: each step and each guard gets its part.
Errors, latency and feedback are judged by a sequential test (`serving.traffic.sequential`), so it does no harm to look
every second. Drift needs a large effect, a small p-value and the minimum of samples together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from serving.traffic.drift import class_shift, confidence_shift
from serving.traffic.outcomes import Evidence
from serving.traffic.sequential import Counts, log_e_difference, log_e_rate
from serving.traffic.state import Guards, TrafficState
from serving.traffic.tallies import Tally

Verdict = Literal["ok", "wait", "hold", "breach"]
Action = Literal["wait", "hold", "advance", "promote", "rollback"]
_LEAST_BASELINE = 100  # Answers of stable below which its quantiles are no measure.


@dataclass(frozen=True)
class Finding:
    """What one guard found.

    Attributes:
        guard: Its name.
        verdict: `ok`; `wait` for more answers; `hold` for a person to decide; `breach` of a limit.
        text: Why, in words and numbers.
    """

    guard: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Judgement:
    """What all guards lead to.

    Attributes:
        action: What to do.
        findings: All findings.
    """

    action: Action
    findings: tuple[Finding, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Texts of the findings that decided."""
        deciding = {"rollback": "breach", "hold": "hold", "wait": "wait"}.get(self.action, "ok")
        return tuple(f"{each.guard}: {each.text}" for each in self.findings if each.verdict == deciding)


def judge(state: TrafficState, step: Evidence, rollout: Evidence, now: float) -> Judgement:
    """Judge the canary of the present step.

    Args:
        state: The state; a canary is running.
        step: Counts of the present step.
        rollout: Counts of all steps; stable's are compared with where it has answered too little in this step, as
            at a weight of 1.
        now: Unix seconds.
    """
    guards = state.guards
    stable = step.stable if step.stable.answers >= guards.minimum_samples else rollout.stable
    canary = step.canary if state.weight > 0 else step.shadow
    guards_counted = 2 + len(guards.quantiles)  # errors, feedback, and one for each quantile
    alpha = guards.significance / (max(len(state.steps), 1) * guards_counted)
    findings = [
        _samples(state, stable, canary, now),
        _errors(stable, canary, guards, alpha),
        *_latencies(stable, canary, guards, alpha),
        *_drift(stable, canary, guards, alpha),
        _feedback(rollout, alpha),
    ]
    return Judgement(_action(state, findings), tuple(findings))


def _action(state: TrafficState, findings: Iterable[Finding]) -> Action:
    verdicts = {finding.verdict for finding in findings}
    if "breach" in verdicts:
        return "rollback"
    if "wait" in verdicts:
        return "wait"
    if "hold" in verdicts:
        return "hold"
    return "promote" if state.step + 1 >= len(state.steps) else "advance"


def _samples(state: TrafficState, stable: Tally, canary: Tally, now: float) -> Finding:
    guards = state.guards
    text = f"{canary.answers} answers of the canary, {stable.answers} of stable; each needs {guards.minimum_samples}"
    enough = min(stable.answers, canary.answers) >= guards.minimum_samples
    if not enough and not stable.answers:
        text += ". Stable has answered nothing that the canary could be compared with"
    lasted = now - (state.step_started if state.step_started is not None else now)
    if enough and lasted < guards.minimum_seconds:
        enough, text = False, f"{text}. The step has lasted {lasted:.0f} s of {guards.minimum_seconds:.0f} s"
    return Finding("samples", "ok" if enough else "wait", text)


def _errors(stable: Tally, canary: Tally, guards: Guards, alpha: float) -> Finding:
    control, treatment = Counts(stable.failures, stable.answers), Counts(canary.failures, canary.answers)
    limit = guards.max_error_increase
    log_e = log_e_difference(control, treatment, margin=limit, alternative="greater")
    text = (
        f"{_rate(treatment)} of the canary's answers failed, {_rate(control)} of stable's; "
        f"at most {limit:.2%} more are allowed"
    )
    if log_e >= math.log(1 / alpha):
        examples = f"; for example {', '.join(canary.failed_requests)}" if canary.failed_requests else ""
        return Finding("errors", "breach", f"{text} ({_evidence(log_e, alpha)}){examples}")
    if treatment.rate - control.rate > limit:
        return Finding("errors", "wait", f"{text}; not certain yet ({_evidence(log_e, alpha)})")
    return Finding("errors", "ok", text)


def _latencies(stable: Tally, canary: Tally, guards: Guards, alpha: float) -> Iterable[Finding]:
    if stable.answers < min(_LEAST_BASELINE, guards.minimum_samples) or not canary.answers:
        return
    for quantile in guards.quantiles:
        old, new = stable.latency_quantile(quantile), canary.latency_quantile(quantile)
        assert old is not None and new is not None, "both have answers"
        limit = max(old * guards.max_latency_ratio, old + guards.latency_floor_ms)
        slow, allowed = Counts(canary.slower_than(limit), canary.answers), 1 - quantile
        log_e, name = log_e_rate(slow, allowed), f"p{quantile * 100:g}"
        text = f"{name} is {new:.1f} ms, stable's {old:.1f} ms, the limit {limit:.1f} ms"
        share = f"{slow.rate:.1%} of the canary's answers took longer than the limit, {allowed:.1%} may"
        if log_e >= math.log(1 / alpha):
            yield Finding("latency", "breach", f"{text}; {share} ({_evidence(log_e, alpha)})")
        elif new > limit * 1.02:  # A quantile is read from bins of 2 %.
            yield Finding("latency", "wait", f"{text}; not certain yet: {share} ({_evidence(log_e, alpha)})")
        else:
            yield Finding("latency", "ok", text)


def _drift(stable: Tally, canary: Tally, guards: Guards, alpha: float) -> Iterable[Finding]:
    if guards.on_drift == "ignore":
        return
    worst: Verdict = "breach" if guards.on_drift == "rollback" else "hold"
    least = guards.minimum_samples
    if min(sum(stable.classes.values()), sum(canary.classes.values())) >= least:
        classes = class_shift(stable.classes, canary.classes)
        shifted = classes.size > guards.max_psi and classes.p_value < alpha
        text = f"stability index of the predicted classes {classes.size:.3f}, limit {guards.max_psi:g}"
        if shifted:
            text += f" (chi-squared p = {classes.p_value:.1e}); most of it from class {classes.largest}"
        yield Finding("drift", worst if shifted else "ok", text)
    if min(sum(stable.confidences.values()), sum(canary.confidences.values())) >= least:
        sure = confidence_shift(stable.confidences, canary.confidences)
        shifted = sure.size > guards.max_confidence_distance and sure.p_value < alpha
        text = f"distance of the confidences {sure.size:.3f}, limit {guards.max_confidence_distance:g}"
        if shifted:
            text += f" (Kolmogorov-Smirnov p = {sure.p_value:.1e}); the canary's are {sure.largest}"
        yield Finding("drift", worst if shifted else "ok", text)


def _feedback(rollout: Evidence, alpha: float) -> Finding:
    stable, canary = rollout.stable, rollout.canary
    control = Counts(stable.right, stable.right + stable.wrong)
    treatment = Counts(canary.right, canary.right + canary.wrong)
    if not control.trials or not treatment.trials:
        return Finding("feedback", "ok", "no answers of both versions were called right or wrong")
    log_e = log_e_difference(control, treatment, alternative="less")
    text = f"users called {_rate(treatment)} of the canary's answers right, {_rate(control)} of stable's"
    if log_e >= math.log(1 / alpha):
        return Finding("feedback", "breach", f"{text} ({_evidence(log_e, alpha)})")
    return Finding("feedback", "ok", text)


def _rate(counts: Counts) -> str:
    return f"{counts.rate:.2%} ({counts.successes} of {counts.trials})"


def _evidence(log_e: float, alpha: float) -> str:
    """The e-value for people; it may be too large for a float."""
    exponent = log_e / math.log(10)
    value = f"{math.exp(log_e):.3g}" if abs(exponent) < 4 else f"10^{exponent:.0f}"
    return f"e-value {value}, decisive from {1 / alpha:.0f}"
