"""A picture of what every form costs and what it gives: accuracy against size and against time.

Comes in: the results table. Goes out: an SVG and a PNG. Called by the pipeline's optimizer and the benchmark.
Colors are those of M. Okabe and K. Ito, "Color Universal Design" (2008), which color-blind people can tell apart;
runtimes also differ in the shape of their markers, and what did not pass is hollow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from serving.certify.labels import Box, place
from serving.certify.pareto import front, non_dominated
from serving.certify.picks import Pick, Target
from serving.certify.table import Row

# Runtime: name for people, color, marker and its size: those drawn later are smaller, so that none hides another.
_LOOKS = {
    "tflite": ("TensorFlow Lite", "#0072B2", "o", 9.5),
    "saved_model": ("TensorFlow SavedModel", "#000000", "D", 8.0),
    "onnxruntime": ("ONNX Runtime", "#D55E00", "s", 6.5),
    "openvino": ("OpenVINO", "#009E73", "^", 7.0),
    "tftrt": ("TF-TRT", "#CC79A7", "v", 7.0),
}
_OTHER = ("another runtime", "#56B4E9", "P", 6.5)
_GRID, _TEXT, _FAINT = "#e6e6e6", "#222222", "#777777"
_FRONT = "#E69F00"
_MARKER = 9.5
_DPI = 160
_FONT = 8.5


_MANY = 12  # Beyond this many variants names are shortened and the picture grows.
_BELOW = "↓"


@dataclass(frozen=True)
class _Mark:
    """A row as it is drawn; a refused one far below the others is drawn at the lower edge."""

    row: Row
    x: float
    y: float
    label: str


@dataclass(frozen=True)
class _Axis:
    """One panel's horizontal axis."""

    heading: str
    label: str
    value: Callable[[Row], float | None]


_AXES = (
    _Axis("Accuracy and download", "kB after gzip (log scale)", lambda row: row.gz_bytes and row.gz_bytes / 1000),
    _Axis("Accuracy and time", "CPU ms per image at batch size 1 (log scale)", lambda row: row.cpu_ms_b1_p50),
)


def draw(
    rows: Iterable[Row],
    path: Path,
    *,
    title: str = "What each form costs and what it gives",
    note: str = "",
    picks: Mapping[Target, Pick] | None = None,
    panel: tuple[float, float] | None = None,
) -> tuple[Path, Path]:
    """Draw the table.

    Args:
        rows: The table; rows without accuracy are only counted in the picture's footnote.
        path: Where to write; the ending is replaced by `.svg` and `.png`.
        title: Heading.
        note: A line below it, such as model, data set and machine.
        picks: Picked variants are set in bold.
        panel: Width and height of a panel with its margins, in inches; by default what suits the number of rows.

    Returns:
        The SVG and the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = list(rows)
    shown = [row for row in table if row.accuracy is not None]
    axes_shown = [axis for axis in _AXES if any(axis.value(row) for row in shown)] or [_AXES[0]]
    across, height = panel or (6.4, 6.2 if len(shown) <= _MANY else 8.2)
    width = across * len(axes_shown) + 0.6
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    # Room for heading and legend above, axis labels and footnote below, in inches.
    figure.subplots_adjust(
        left=0.75 / width, right=1 - 0.25 / width, top=1 - 1.3 / height, bottom=0.95 / height, wspace=0.16
    )
    panels = figure.subplots(1, len(axes_shown), sharey=True, squeeze=False)[0]
    limits = _limits(shown)
    marks = [_marks(axis, shown, limits[0]) for axis in axes_shown]
    for panel, axis, of_axis in zip(panels, axes_shown, marks, strict=True):
        _panel(panel, axis, of_axis, limits, set(front(shown)))
    panels[0].set_ylabel("accuracy (%)", color=_TEXT)
    bold = {entry.variant for entry in (picks or {}).values()}
    _headings(figure, title, note, table, shown, bool(bold))
    figure.canvas.draw()
    for panel, of_axis in zip(panels, marks, strict=True):
        _labels(panel, of_axis, bold)
    return _save(figure, path)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Range of the vertical axis: what passed fills it, what was refused far below does not flatten it."""
    up = [100 * (row.accuracy or 0.0) for row in rows]
    passed = [100 * (row.accuracy or 0.0) for row in rows if row.ok] or up
    if not passed:
        return 0.0, 100.0
    # A difference of a tenth of a point must not fill the chart.
    spread = max(max(passed) - min(passed), 0.8)
    low = max(min(up), min(passed) - 0.3 * spread)
    return low - 0.2 * spread, max(up) + 0.25 * spread


def _marks(axis: _Axis, rows: Sequence[Row], lowest: float) -> list[_Mark]:
    found = []
    for row in rows:
        value, accuracy = axis.value(row), 100 * (row.accuracy or 0.0)
        if value:
            name = row.variant if len(rows) <= _MANY else _short(row)
            below = accuracy < lowest
            label = f"{name} {_BELOW} {accuracy:.1f} %" if below else name
            found.append(_Mark(row, value, lowest if below else accuracy, label))
    return found


def _short(row: Row) -> str:
    """The name without the runtime, which the marker shows: `qat int8` for `qat_tflite_int8`."""
    form = row.form.partition("_")[2] if row.form != "saved_model" else "SavedModel"
    return f"{row.technique} {form}".strip()


def _panel(panel: Any, axis: _Axis, marks: Sequence[_Mark], limits: tuple[float, float], members: set[str]) -> None:
    panel.set_title(axis.heading, loc="left", fontsize=10, color=_TEXT, pad=8)
    panel.set_xlabel(axis.label, color=_TEXT)
    panel.set_ylim(*limits)
    _scale(panel, [mark.x for mark in marks])
    _front_line(panel, marks)
    drawn = [*_LOOKS]
    for mark in sorted(marks, key=lambda mark: drawn.index(mark.row.runtime) if mark.row.runtime in drawn else 9):
        _, color, shape, size = _LOOKS.get(mark.row.runtime, _OTHER)
        ring = mark.row.variant in members
        panel.plot(
            [mark.x],
            [mark.y],
            marker=shape,
            markersize=size,
            markerfacecolor=color if mark.row.ok else "white",
            markeredgecolor=_FRONT if ring else color,
            markeredgewidth=2.0 if ring else 1.4,
            linestyle="none",
            zorder=4 if mark.row.ok else 3,
            clip_on=False,
        )
    panel.grid(True, which="major", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_FAINT, which="both", labelsize=8.5)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        panel.spines[side].set_color("#bbbbbb")


def _scale(panel: Any, across: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    panel.set_xscale("log")
    if across:
        low, high = math.log10(min(across)), math.log10(max(across))
        room = max(0.16 * (high - low), 0.15)
        panel.set_xlim(10 ** (low - room), 10 ** (high + 1.6 * room))
    wide = bool(across) and max(across) / min(across) > 100
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3) if wide else (1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))


def _front_steps(panel: Any, marks: Sequence[_Mark]) -> tuple[list[float], list[float]]:
    """Corners of the line along what passed: left of and above it there is nothing."""
    points = [(mark.x, mark.y) for mark in marks if mark.row.ok]
    best = sorted({points[index] for index in non_dominated([(x, -y) for x, y in points])})
    if not best:
        return [], []
    across = [best[0][0], *(x for x, _ in best), panel.get_xlim()[1]]
    return across, [panel.get_ylim()[0], *(y for _, y in best), best[-1][1]]


def _front_line(panel: Any, marks: Sequence[_Mark]) -> None:
    across, up = _front_steps(panel, marks)
    if not across:
        return
    limits, bottom = panel.get_xlim(), panel.get_ylim()[0]
    panel.plot(across, up, drawstyle="steps-post", color=_FRONT, linewidth=1.4, alpha=0.8, zorder=2)
    panel.fill_between(across, up, bottom, step="post", color=_FRONT, alpha=0.06, linewidth=0, zorder=1)
    panel.set_xlim(limits)


def _headings(figure: Any, title: str, note: str, table: Sequence[Row], shown: Sequence[Row], bold: bool) -> None:
    width, height = figure.get_size_inches()
    left = 0.75 / width
    figure.text(left, 1 - 0.28 / height, title, fontsize=14, fontweight="bold", color=_TEXT, va="center")
    if note:
        figure.text(left, 1 - 0.52 / height, note, fontsize=9, color=_FAINT, va="center")
    figure.legend(
        handles=_legend(shown),
        loc="center left",
        bbox_to_anchor=(left - 0.03 / width, 1 - 0.78 / height),
        ncol=8,
        frameon=False,
        fontsize=8.5,
        handletextpad=0.3,
        columnspacing=1.4,
        borderpad=0,
        borderaxespad=0,
        labelcolor=_TEXT,
    )
    figure.text(left, 0.2 / height, _footnote(table, shown, bold), fontsize=8, color=_FAINT, va="center")


def _legend(shown: Sequence[Row]) -> list[Any]:
    from matplotlib.lines import Line2D

    def entry(label: str, **looks: Any) -> Any:
        return Line2D([], [], label=label, markersize=7, **{"linestyle": "none", **looks})

    used = {row.runtime for row in shown}
    handles = [
        entry(name, color=color, marker=marker)
        for runtime, (name, color, marker, _) in {**_LOOKS, "": _OTHER}.items()
        if runtime in used or (not runtime and used - set(_LOOKS))
    ]
    if any(not row.ok for row in shown):
        handles.append(entry("refused", marker="o", markerfacecolor="white", markeredgecolor=_FAINT))
    if any(row.ok for row in shown):
        handles.append(entry(" Pareto front", color=_FRONT, linestyle="-", linewidth=1.6))
    return handles


def _footnote(table: Sequence[Row], shown: Sequence[Row], bold: bool) -> str:
    parts = []
    if not shown:
        parts.append("No form was measured.")
    elif not any(row.ok for row in shown):
        parts.append("No form passed.")
    if any(row.ok for row in shown):
        parts.append("Orange rings: no other form is better in accuracy, size and time at once.")
    if bold:
        parts.append("Bold: picked for a target.")
    missing = [row for row in table if row not in shown]
    for status in ("skipped", "failed", "refused"):
        names = [row.variant for row in missing if row.status == status]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"Not shown, {status}: {', '.join(names[:3])}{more}.")
    return "   ".join(parts)


def _labels(panel: Any, marks: Sequence[_Mark], bold: set[str]) -> None:
    """Write names beside the points, with a thin line to those that had to move away."""
    if not marks:
        panel.text(0.5, 0.5, "nothing to show", transform=panel.transAxes, ha="center", color=_FAINT)
        return
    renderer = panel.figure.canvas.get_renderer()
    texts = [
        panel.text(
            mark.x,
            mark.y,
            mark.label,
            fontsize=_FONT,
            fontweight="bold" if mark.row.variant in bold else "normal",
            color=_TEXT if mark.row.ok else _FAINT,
            zorder=6,
            va="bottom",
            # Keeps names readable where they cross a line; an outline of the letters would turn text into paths.
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6},
        )
        for mark in marks
    ]
    extents = [text.get_window_extent(renderer) for text in texts]
    points = [tuple(panel.transData.transform((mark.x, mark.y))) for mark in marks]
    area = panel.get_window_extent(renderer)
    radius = _MARKER / 2 * _DPI / 72 + 2
    frame = Box(area.x0 + 4, area.y0 + 4, area.x1 + 0.12 * _DPI, area.y1)
    sizes = [(extent.width, extent.height) for extent in extents]
    boxes = place(points, sizes, radius, frame, _line_boxes(panel, marks))
    back = panel.transData.inverted()
    for text, point, box in zip(texts, points, boxes, strict=True):
        text.set_position(back.transform((box.left, box.bottom)))
        _leader(panel, point, box, radius)


def _line_boxes(panel: Any, marks: Sequence[_Mark]) -> list[Box]:
    """The steps of the front as thin boxes in pixels."""
    across, up = _front_steps(panel, marks)
    corners = [panel.transData.transform(corner) for corner in zip(across, up, strict=True)]
    boxes = []
    for (left, low), (right, high) in pairwise(corners):
        boxes.append(Box(left, low - 1, right, low + 1))
        boxes.append(Box(right - 1, min(low, high), right + 1, max(low, high)))
    return boxes


def _leader(panel: Any, point: tuple[float, float], box: Box, radius: float) -> None:
    near = box.nearest(point)
    distance = math.dist(point, near)
    if distance < radius + 9:
        return
    share = (radius + 1) / distance
    start = (point[0] + (near[0] - point[0]) * share, point[1] + (near[1] - point[1]) * share)
    ends = panel.transData.inverted().transform([start, near])
    panel.plot(ends[:, 0], ends[:, 1], color="#999999", linewidth=0.7, zorder=2.5, scalex=False, scaley=False)


def _save(figure: Any, path: Path) -> tuple[Path, Path]:
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    vector, pixels = path.with_suffix(".svg"), path.with_suffix(".png")
    # Fixed ids and no date: the same table gives the same file. Letters stay text, so that they can be searched.
    with matplotlib.rc_context({"svg.hashsalt": "results", "svg.fonttype": "none"}):
        figure.savefig(vector, metadata={"Date": None})
    figure.savefig(pixels, dpi=_DPI, metadata={"Software": None})
    return vector, pixels
