"""Tables of `slipway runs`: the list, one run, a comparison, a garbage collection."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.records import FAILED, HIT, INTERRUPTED, LEFT_OUT, RAN, REFUSED, RUNNING, STAGE_FAILED, SUCCEEDED

if TYPE_CHECKING:
    from pipeline.history.collecting import Plan
    from pipeline.history.comparing import Comparison
    from pipeline.history.details import RunDetails, RunSummary, StageDetails
    from pipeline.history.ingredients import Difference

STATE_STYLE = {
    SUCCEEDED: "green",
    REFUSED: "bold red",
    FAILED: "bold red",
    INTERRUPTED: "yellow",
    RUNNING: "cyan",
    HIT: "green",
    RAN: "cyan",
    STAGE_FAILED: "bold red",
    LEFT_OUT: "dim",
}

_WIDEST_VALUE = 60
"""Characters of a value that a table shows; `--json` has all of them."""

_MOST_SKIPPED = 5


def console() -> Console:
    """Return where tables go; off a terminal they are as wide as they need to be, for `grep` and files."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=max(screen.width, 160))


def new_table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """Return an empty table.

    Args:
        title: above it; may hold brackets.
        *columns: their names.
        right: names of columns with figures.
    """
    table = Table(title=escape(title), title_justify="left", header_style="bold", expand=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def bytes_text(count: int) -> str:
    """Return a size in words: 512 B, 1.5 kB, 20.0 MB, 3.1 GB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} B" if unit == "B" else f"{value:,.1f} {unit}"


def runs_table(rows: list[RunSummary]) -> Table:
    """Return the list of runs."""
    table = new_table(
        "Runs", "run", "pipeline", "started", "seconds", "state", "version", "metric", "remark", right=("seconds",)
    )
    for row in rows:
        metric = f"{row.metric} {row.value:.4f}" if row.value is not None else ""
        parts = [
            "" if row.executed else "nothing had changed" if row.state in (SUCCEEDED, REFUSED) else "",
            row.driver,
            row.error.partition("\n")[0],
        ]
        table.add_row(
            Text(row.id), Text(row.name), row.started.replace("T", " ").rstrip("Z"), f"{row.seconds:,.1f}",
            Text(row.state, style=STATE_STYLE.get(row.state, "")), str(row.version or ""), metric,
            Text(_short("; ".join(part for part in parts if part), 100)),
        )  # fmt: skip
    return table


def print_run(screen: Console, run: RunDetails) -> None:
    """Print one run: stages, artifacts, what the stages read, verdicts."""
    head = run.summary
    screen.print(Text.assemble((head.id, "bold"), f"  {head.name}  ", (head.state, STATE_STYLE.get(head.state, ""))))
    facts = {
        "started": head.started, "seconds": f"{head.seconds:,.1f}", "config": head.config, "driven": head.driver,
        "log": run.log, "error": head.error,
    }  # fmt: skip
    for name, value in facts.items():
        if value:
            screen.print(Text(f"{name:<8} {value}"))
    stages = new_table("Stages", "stage", "state", "started", "wall s", "what came out", "why", right=("wall s",))
    artifacts = new_table("Artifacts", "stage", "output", "id", "type", "state", "folder", right=("id",))
    values = new_table("What the stages read", "stage", "value", "")
    for stage in run.stages:
        started = stage.started.replace("T", " ").rstrip("Z")
        seconds = f"{stage.seconds:.1f}" if stage.seconds else ""
        stages.add_row(stage.id, _styled(stage.state), started, seconds, Text(stage.detail), Text(stage.reason))
        for key, found in stage.outputs.items():
            for artifact in found:
                state = "" if artifact.state == "LIVE" else artifact.state
                artifacts.add_row(stage.id, key, str(artifact.id), artifact.type, state, Text(artifact.uri))
        for name, value in {**stage.config, **stage.properties}.items():
            values.add_row(stage.id, Text(name), Text(_value(value)))
    for table in (stages, artifacts, values):
        if table.row_count:
            screen.print(table)
    if run.verdicts:
        verdicts = new_table("Verdicts", "gate", "verdict", "finding")
        for verdict in run.verdicts:
            verdicts.add_row(verdict["gate"], _passed(verdict["passed"]), Text(verdict["sentence"]))
        screen.print(verdicts)
    for kind, place in run.published.items():
        screen.print(Text(f"{kind:<8} {place}"))


def print_comparison(screen: Console, found: Comparison) -> None:
    """Print what differs between two runs."""
    for name, side in (("a", found.a), ("b", found.b)):
        screen.print(Text(f"{name}: {side.id}  {side.name}  {side.state}  {side.started}  {side.seconds:,.1f} s"))
    groups: list[tuple[str, list[Difference]]] = [
        ("Config", found.config), ("Code", found.code), ("Data", found.data), ("Libraries", found.libraries),
        ("Environment", found.environment), ("Verdicts", found.verdicts),
    ]  # fmt: skip
    same = [title.lower() for title, differences in groups if not differences]
    for title, differences in groups:
        if differences:
            table = new_table(title, "name", "a", "b", *(["stages"] if title == "Code" else []))
            for each in differences:
                stages = [", ".join(each.stages)] if title == "Code" else []
                table.add_row(Text(each.name), Text(_value(each.a)), Text(_value(each.b)), *stages)
            screen.print(table)
    if found.metrics:
        table = new_table("Metrics", "metric", "a", "b", "change", right=("a", "b", "change"))
        for metric in found.metrics:
            change = "" if metric.change is None else f"{metric.change:+.4f}" if metric.change else "="
            table.add_row(metric.name, _figure(metric.a), _figure(metric.b), change)
        screen.print(table)
    table = new_table("Stages", "stage", "a", "a s", "b", "b s", "artifacts", right=("a s", "b s"))
    for pair in found.stages:
        outputs = {None: "", True: "the same", False: "others"}[pair.same_outputs]
        table.add_row(pair.name, *_stage(pair.a), *_stage(pair.b), outputs)
    screen.print(table)
    if same:
        screen.print(Text(f"no difference known in: {', '.join(same)}"))


def print_plan(screen: Console, plan: Plan, applied: bool) -> None:
    """Print what a garbage collection removes, and what it keeps why."""
    table = new_table(
        "Removed" if applied else "Would be removed", "stage", "type", "artifacts", "size", "made",
        right=("artifacts", "size"),
    )  # fmt: skip
    groups: dict[tuple[str, str], list[Any]] = {}
    for item in plan.items:
        groups.setdefault((item.stage, item.artifact.type), []).append(item)
    for (stage, kind), items in sorted(groups.items()):
        table.add_row(stage, kind, str(len(items)), bytes_text(sum(i.size for i in items)), _span(items))
    for leftover in plan.leftovers:
        table.add_row(leftover.path.parts[-3], "leftover", "", bytes_text(leftover.size), Text(str(leftover.path)))
    if table.row_count:
        screen.print(table)
    reasons = Counter(plan.kept.values())
    stay = new_table("Stays", "artifacts", "because", right=("artifacts",))
    for reason, count in reasons.items():
        stay.add_row(str(count), Text(reason))
    if stay.row_count:
        screen.print(stay)
    for artifact, reason in plan.skipped[:_MOST_SKIPPED]:
        screen.print(Text(f"left alone: {artifact.type} {artifact.uri}: {reason}"))
    if len(plan.skipped) > _MOST_SKIPPED:
        screen.print(Text(f"left alone: {len(plan.skipped) - _MOST_SKIPPED} more"))
    screen.print(Text(_closing(plan, applied)))


def _closing(plan: Plan, applied: bool) -> str:
    count = len(plan.items) + len(plan.leftovers)
    stay = f"{len(plan.kept)} artifacts ({bytes_text(plan.kept_size)}) stay"
    if not count:
        return f"nothing to remove; {stay}"
    size = bytes_text(plan.size)
    if applied:
        return f"{count} folders ({size}) were removed; {stay}"
    return f"{count} folders ({size}) would be removed; {stay}. Nothing was changed: add --apply to remove them"


def _span(items: list[Any]) -> str:
    from pipeline.history.runs import utc

    days = [utc(item.artifact.created)[:10] for item in items]
    return min(days) if min(days) == max(days) else f"{min(days)} to {max(days)}"


def _stage(side: StageDetails | None) -> tuple[Text, str]:
    return (Text(""), "") if side is None else (_styled(side.state), f"{side.seconds:.1f}" if side.seconds else "")


def _styled(state: str) -> Text:
    return Text(state, style=STATE_STYLE.get(state, ""))


def _passed(passed: bool) -> Text:
    return Text("passed", style="green") if passed else Text("refused", style="bold red")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if value == round(value) else f"{value:.4f}"


def _value(value: Any) -> str:
    return "" if value is None else _short(value if isinstance(value, str) else json.dumps(value))


def _short(text: str, most: int = _WIDEST_VALUE) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
