"""The results table for people at a terminal.

Comes in: rows and picks. Goes out: renderables for rich. Called by the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.certify.picks import Pick, Target, listed_only
from serving.certify.table import Row
from serving.measure.latency import UNRELIABLE

_COLORS = {"ok": "green", "refused": "red", "skipped": "yellow", "failed": "red"}
_PICKED, _FRONT = "★", "•"


@dataclass(frozen=True)
class _Column:
    """A column of figures; of a table that is too wide, the column with the highest number goes first."""

    heading: str
    text: Callable[[Row], str]
    expendable: int


def results_table(
    rows: Iterable[Row],
    picks: Mapping[Target, Pick] | None = None,
    front: Sequence[str] = (),
    title: str = "",
    width: int | None = None,
) -> Any:
    """Lay out the results table, with the reasons below it.

    Args:
        rows: The table, in the order to show.
        picks: Their variants get a star.
        front: Variants on the Pareto front, which get a dot.
        title: Heading.
        width: Columns of the terminal; columns of the table are left out until it fits. None leaves out none.

    Returns:
        A renderable; print it with a `rich.console.Console`.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    listed = list(rows)
    picked = {entry.variant for entry in (picks or {}).values()}
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("variant", no_wrap=True)
    columns = _fitting(listed, width)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row in listed:
        mark = _PICKED if row.variant in picked else _FRONT if row.variant in front else ""
        name = Text(row.variant, style="bold" if row.variant in picked else "")
        table.add_row(
            mark, name, *(column.text(row) for column in columns), Text(row.status, style=_COLORS[row.status])
        )
    below = [Text(text, style="dim") for text in _legend(listed, picked, front)]
    return Group(table, *below, *_reasons(listed))


def _fitting(rows: Sequence[Row], width: int | None) -> list[_Column]:
    columns = list(_COLUMNS)
    # Mark, name, the longest status, and the three characters between columns.
    fixed = 2 + 1 + 3 + max((len(row.variant) for row in rows), default=7) + 3 + len("refused")

    def needed() -> int:
        cells = (max([len(column.heading), *(len(column.text(row)) for row in rows)]) for column in columns)
        return fixed + sum(cell + 3 for cell in cells)

    while width is not None and columns and needed() > width:
        columns.remove(max(columns, key=lambda column: column.expendable))
    return columns


def _reasons(rows: Sequence[Row]) -> list[Any]:
    from rich.padding import Padding
    from rich.text import Text

    found = []
    for row in rows:
        remark = row.reason or listed_only(row)
        if remark:
            text = Text.assemble((row.variant, _COLORS[row.status]), ": ", remark)
            found.append(Padding(text, (0, 0, 0, 1)))
    return [Text(), *found] if found else []


def picks_table(picks: Mapping[Target, Pick]) -> Any:
    """Lay out what every target gets and why; a `rich.table.Table`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("target", "ships", "because"):
        table.add_column(heading, no_wrap=heading != "because")
    for entry in picks.values():
        style = "yellow" if entry.fallback else "bold"
        table.add_row(entry.target, Text(entry.variant, style=style), Text(entry.reason))
    return table


def _difference(row: Row) -> str:
    if row.delta is None or row.ci95_low is None or row.ci95_high is None:
        return ""
    if row.delta == row.ci95_low == row.ci95_high == 0:
        return "reference"
    return f"{100 * row.delta:+.2f} ({100 * row.ci95_low:+.2f} … {100 * row.ci95_high:+.2f})"


def _number(value: float | int | None, text: Any) -> str:
    return "" if value is None else str(text(value))


def _doubtful(row: Row) -> bool:
    return row.contention is not None and row.contention > UNRELIABLE


def _compared(rows: Sequence[Row]) -> bool:
    return any(row.ratio is not None or row.ratio_b32 is not None for row in rows)


def _legend(rows: Sequence[Row], picked: set[str], front: Sequence[str]) -> list[str]:
    parts = [
        f"{_PICKED} picked for a target" if picked else "",
        f"{_FRONT} on the Pareto front" if set(front) - picked else "",
        "x b1: times faster than the SavedModel at batch size 1" if _compared(rows) else "",
        "? the machine was busy: CPU times still compare, wall times do not" if any(map(_doubtful, rows)) else "",
    ]
    return [f" {part}" for part in parts if part]


_COLUMNS = (
    _Column("kB", lambda row: _number(row.bytes, lambda value: f"{value / 1000:,.1f}"), 5),
    _Column("gz kB", lambda row: _number(row.gz_bytes, lambda value: f"{value / 1000:,.1f}"), 1),
    _Column("accuracy", lambda row: _number(row.accuracy, lambda value: f"{value:.4f}"), 0),
    _Column("Δ points (95 %)", lambda row: _difference(row), 3),
    _Column("agree", lambda row: _number(row.top1_agreement, lambda value: f"{100 * value:.1f} %"), 6),
    _Column("CPU ms", lambda row: _number(row.cpu_ms_b1_p50, lambda value: f"{value:.3f}") + "?" * _doubtful(row), 4),
    _Column("x b1", lambda row: _number(row.ratio, lambda value: f"{value:.2f}"), 2),
    _Column("x b32", lambda row: _number(row.ratio_b32, lambda value: f"{value:.2f}"), 7),
)
