"""The status and the A/B report for people at a terminal.

Comes in: data of `serving.traffic.commands`. Goes out: renderables for rich. Called by the command line.
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


def status_table(status: CanaryStatus) -> Any:
    """Lay out the status; print it with a `rich.console.Console`."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(summary(status), style="bold")]
    for server in status.servers:
        versions = ", ".join(f"{number} {standing.state}" for number, standing in sorted(server.versions.items()))
        parts.append(Text(f"{server.address}: {server.problem or versions or 'no versions'}"))
    if status.judgement is not None:
        parts.append(_guards_table(status))
    if status.state.rollout:
        parts.append(report_table(status.report))
    if status.decisions:
        parts.append(_decisions_table(status.decisions))
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


def report_table(report: ABReport) -> Any:
    """Lay out the A/B report."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "version", "answers", "failed", "p50 ms", "p95 ms", "p99 ms", "right", "wrong", "accuracy"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    arms = [("stable", report.stable), ("canary", report.canary)]
    for name, arm in [*arms, *([("shadow", report.shadow)] if report.shadow.answers else [])]:
        table.add_row(name, *_cells(arm))
    lines: list[Any] = [table, Text(report.headline, style="bold"), Text(report.errors.text)]
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
        table.add_column(heading)
    for finding in status.judgement.findings:
        table.add_row(finding.guard, Text(finding.verdict, style=_COLORS[finding.verdict]), Text(finding.text))
    return table


def _decisions_table(decisions: Sequence[Decision]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("time", "decision", "stable", "canary", "weight", "by", "why"):
        table.add_column(heading, no_wrap=heading != "why")
    for entry in decisions[-_SHOWN_DECISIONS:]:
        canary = "" if entry.canary is None else str(entry.canary)
        why = Text("; ".join(entry.reasons))
        table.add_row(entry.time, entry.action, str(entry.stable), canary, f"{entry.weight:.0%}", entry.by, why)
    return table
