"""One sentence from the table: from how many pictures on workers pay.

Comes in: rows of `scale.csv`. Goes out: text. Wall time is taken as a start-up plus a cost for each picture, which two
sizes determine; two such lines cross where both engines take the same time.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Rows = Sequence[dict[str, str]]


def walls(rows: Rows, engine: str, workers: int, field: str = "wall_s") -> dict[int, float]:
    """Return the median of a figure of all stages by number of pictures."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["stage"] == "all" and row["engine"] == engine and int(row["workers"]) == workers:
            found.setdefault(int(row["images"]), []).append(float(row[field]))
    return {images: statistics.median(values) for images, values in sorted(found.items())}


def line(points: dict[int, float]) -> tuple[float, float]:
    """Return seconds of start-up and seconds for each picture, from the two largest sizes."""
    (few, first), (many, second) = sorted(points.items())[-2:]
    slope = (second - first) / (many - few)
    return first - slope * few, slope


def crossing(direct: dict[int, float], shared: dict[int, float]) -> float | None:
    """Return the number of pictures at which both take the same time; None if sharing is never faster.

    Args:
        direct: seconds by number of pictures in one process.
        shared: the same on workers; at least two sizes that `direct` has too.
    """
    common = direct.keys() & shared.keys()
    start, slope = line({images: direct[images] for images in common})
    start_shared, slope_shared = line({images: shared[images] for images in common})
    if slope_shared >= slope:
        return None
    return max(0.0, (start_shared - start) / (slope - slope_shared))


def sentence(rows: Rows) -> str:
    """Return what the table says about when to use workers."""
    direct = walls(rows, "direct", 1)
    counts = sorted({int(row["workers"]) for row in rows if row["engine"] == "workers" and int(row["workers"]) > 1})
    comparable = {n: found for n in counts if len((found := walls(rows, "workers", n)).keys() & direct.keys()) >= 2}
    cores = rows[0]["cores"]
    if not comparable:
        return f"Too few sizes were measured on {cores} cores to say from when on workers pay."
    sizes = {n: crossing(direct, found) for n, found in comparable.items()}
    paying = {n: size for n, size in sizes.items() if size is not None}
    if not paying:
        return f"On {cores} cores workers took longer than one process at every size that was measured."
    best = min(paying, key=lambda n: paying[n])
    largest = max(comparable[best].keys() & direct.keys())
    ratio = direct[largest] / comparable[best][largest]
    beyond = "" if paying[best] <= largest else f", which is beyond the {largest:,} that were measured"
    return (
        f"On {cores} cores the data stages are faster with {best} workers than in one process from about "
        f"{_rounded(paying[best]):,} pictures on{beyond}; at {largest:,} they take {comparable[best][largest]:.0f} s "
        f"in place of {direct[largest]:.0f} s, a factor of {ratio:.1f}."
    )


def _rounded(value: float) -> int:
    """Return a number with two digits that count."""
    return int(float(f"{value:.1e}"))
