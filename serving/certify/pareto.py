"""The Pareto front: variants that no other beats in everything.

Comes in: rows of the results table. Goes out: names of variants. Called by the optimizer, the picture and the
table for the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serving.certify.table import Row

Point = tuple[float, ...]


def front(rows: Iterable[Row]) -> list[str]:
    """Variants that passed and are not dominated in accuracy (more), bytes after gzip and CPU time (less).

    Args:
        rows: The table. Rows that did not pass take no part; time takes part if every row that passed has one.

    Returns:
        Names in the order of the table. Variants with the same figures stay together.
    """
    passed = [row for row in rows if row.ok and row.accuracy is not None and row.gz_bytes is not None]
    timed = all(row.cpu_ms_b1_p50 is not None for row in passed)
    points = [
        (-(row.accuracy or 0.0), float(row.gz_bytes or 0), float(row.cpu_ms_b1_p50 or 0.0) if timed else 0.0)
        for row in passed
    ]
    return [passed[index].variant for index in non_dominated(points)]


def non_dominated(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other point dominates; less is better in every coordinate.

    One point dominates another if it is nowhere worse and somewhere better.
    """
    return [
        index
        for index, point in enumerate(points)
        if not any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)
    ]
