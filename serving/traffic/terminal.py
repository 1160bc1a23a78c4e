"""The status and the A/B report for people at a terminal.

Comes in: data of `serving.traffic.commands`. Goes out: renderables for rich, which fold and are never cut, so that
they can be read at any width. Called by the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from serving.traffic.report import ABReport, Arm
from serving.traffic.state import Decision

if TYPE_CHECKING:
    from serving.traffic.commands import CanaryStatus

_COLORS = {"ok": "green", "wait": "yellow", "hold": "yellow", "breach": "red"}
_SHOWN_DECISIONS = 8
_ENDINGS = {"promoted": "promoted", "rolled-back": "rolled back"}
_CAUSES = {"promoted": "promote", "rolled-back": "rollback"}
_MEASURES = ("version", "answers", "failed", "p50 ms", "p95 ms", "p99 ms", "right", "wrong", "accuracy")


def status_table(status: CanaryStatus) -> Any:
    """Lay out the status; print it with a `rich.console.Console`.

    A canary on trial is shown with its guards, counts and decisions; without one, how the last trial ended.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(summary(status), style="bold")]
    for server in status.servers:
        versions = ", ".join(f"{number} {standing.state}" for number, standing in sorted(server.versions.items()))
        parts.append(Text(f"{server.address}: {server.problem or versions or 'no versions'}"))
    if status.judgement is not None:
        parts.append(_guards_table(status))
    trial = [entry for entry in status.decisions if entry.rollout and entry.rollout == status.state.rollout]
    if status.state.canary is not None:
        parts += [report_table(status.report), _decision_lines(trial)]
    elif ending := _ending(trial):
        parts.append(Text(ending))
        if status.report.stable.answers or status.report.canary.answers:
            parts.append(report_table(status.report, ended=True))
    return Group(*parts)


def summary(status: CanaryStatus) -> str:
    """The status in one line."""
    state = status.state
    if state.canary is None:
        return f"{state.model}: version {state.stable} answers everyone; no canary"
    doing = "" if state.phase == "running" else f", {state.phase}"
    step = f", step {state.step + 1} of {len(state.steps)}" if state.phase == "running" else ""
    shadow = f", shadow of {state.shadow_share:.0%} of the rest" if state.shadow else ""
    decides = "" if state.automatic else ", decided by hand"
    return (
        f"{state.model}: version {state.canary} on trial with {state.weight:.0%} of the users{step}{shadow}{doing}"
        f"{decides}; version {state.stable} is stable"
    )


def report_table(report: ABReport, *, ended: bool = False) -> Any:
    """Lay out the A/B report: a line for each measure, a column for each version.

    Args:
        report: The report.
        ended: Whether the trial is over; then nothing is said of what was never compared.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    arms = {"stable": report.stable, "canary": report.canary}
    if report.shadow.answers:
        arms["shadow"] = report.shadow
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in arms:
        table.add_column(name, justify="right")
    for row in zip(_MEASURES, *map(_cells, arms.values()), strict=True):
        table.add_row(*row)
    lines: list[Any] = [table]
    if not ended or report.feedback.difference is not None:
        lines.append(Text(report.headline, style="bold"))
    if report.errors.difference is not None:
        lines.append(Text(report.errors.text))
    if report.agreement.rate is not None:
        found = report.agreement
        lines.append(
            Text(
                f"the canary agrees with what users were told in {found.rate:.2%} of {found.compared} shadow answers, "
                f"{report.confidence:.0%} certain between {found.low:.2%} and {found.high:.2%}"
            )
        )
    return Group(*lines)


def _cells(arm: Arm) -> list[str]:
    times = ["" if value is None else f"{value:.1f}" for value in (arm.p50, arm.p95, arm.p99)]
    return [
        "" if arm.version is None else str(arm.version),
        str(arm.answers),
        f"{arm.failure_rate:.2%}",
        *times,
        str(arm.right),
        str(arm.wrong),
        "" if arm.accuracy is None else f"{arm.accuracy:.2%}",
    ]


def _guards_table(status: CanaryStatus) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    assert status.judgement is not None, "the caller looked"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("guard", "verdict", "why"):
        table.add_column(heading, overflow="fold")
    for finding in status.judgement.findings:
        table.add_row(finding.guard, Text(finding.verdict, style=_COLORS[finding.verdict]), Text(finding.text))
    return table


def _decision_lines(trial: Sequence[Decision]) -> Any:
    from rich.table import Table
    from rich.text import Text

    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column(overflow="fold")
    before = [0.0, *(entry.weight for entry in trial)]
    for entry, weight in list(zip(trial, before, strict=False))[-_SHOWN_DECISIONS:]:
        moved = f", {weight:.0%} → {entry.weight:.0%}" if weight != entry.weight else ""
        why = _why(entry)
        lines.add_row(_minute(entry), Text(f"{entry.action} by {entry.by}{moved}{f': {why}' if why else ''}"))
    return lines


def _ending(trial: Sequence[Decision]) -> str:
    """How a trial ended, and why; empty if it did not."""
    end = next((entry for entry in reversed(trial) if entry.action in _ENDINGS), None)
    if end is None:
        return ""
    cause = next((entry for entry in reversed(trial) if entry.action == _CAUSES[end.action]), end)
    why = _why(cause)
    return (
        f"Last trial: version {end.canary} was {_ENDINGS[end.action]} at {_minute(end)} (by {cause.by})"
        f"{f': {why}' if why else ''}"
    )


def _why(entry: Decision) -> str:
    return "; ".join(reason for reason in entry.reasons if reason != f"by {entry.by}")


def _minute(entry: Decision) -> str:
    return f"{entry.time[:16].replace('T', ' ')} UTC"
