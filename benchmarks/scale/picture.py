"""The table as a picture: wall time, CPU time and memory against the number of pictures, a line for each engine."""

from __future__ import annotations

from pathlib import Path

from benchmarks.scale.summary import Rows, walls

_PANELS = (
    ("wall_s", "wall time, s"),
    ("cpu_s", "CPU time, s"),
    ("driver_mb", "driver's peak, MB"),
    ("worker_mb", "largest worker's peak, MB"),
)


def draw(rows: Rows, file: Path) -> None:
    """Draw the picture.

    Args:
        rows: of the table.
        file: PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    engines = sorted({(row["engine"], int(row["workers"])) for row in rows})
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (field, title) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for color, (engine, workers) in enumerate(engines):
            points = walls(rows, engine, workers, field)
            if any(points.values()):
                label = "one process" if engine == "direct" else f"{workers} worker{'s' * (workers > 1)}"
                axes.plot(list(points), list(points.values()), marker="o", label=label, color=f"C{color}")
        axes.set_xscale("log")
        axes.set_xlabel("pictures")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        if field.endswith("_s"):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.legend()
    figure.suptitle(f"Data stages on {rows[0]['cores']} cores of {rows[0]['cpu']}, {rows[-1]['date']}")
    figure.savefig(file, dpi=110)
