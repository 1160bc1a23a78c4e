"""The charts of a report, drawn by matplotlib as SVG that stands in the page itself.

Comes in: figures of a run. Goes out: `Chart`s with a sentence that says the same in words, for people who can't see
them. Colors are names of the page's style sheet, which has a light and a dark set; they are those of M. Okabe and
K. Ito, "Color Universal Design" (2008), and lines also differ in their strokes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_INK, _FAINT, _LINE = "#010203", "#010204", "#010205"
_TRAIN, _EVAL, _TEST = "#0072b2", "#d55e00", "#009e73"
_STYLE = {
    _INK: "var(--ink)",
    _FAINT: "var(--soft)",
    _LINE: "var(--line)",
    _TRAIN: "var(--blue)",
    _EVAL: "var(--orange)",
    _TEST: "var(--green)",
}
"""Colors that matplotlib draws with, and what stands for them in the page."""

_SPLIT_COLORS = {"train": _TRAIN, "eval": _EVAL, "test": _TEST}
_MOST_CLASSES = 40


@dataclass(frozen=True)
class Chart:
    """A picture and its words."""

    svg: str
    words: str
    """What the picture shows, as a sentence with figures."""


def training(history: Sequence[Mapping[str, float]]) -> Chart:
    """Draw loss and accuracy over the epochs.

    Args:
        history: one mapping per epoch: `epoch`, `loss`, `accuracy`, `eval_loss`, `eval_accuracy`.
    """
    figure = _figure(9.2, 3.1)
    panels = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for panel, metric in zip(panels, ("loss", "accuracy"), strict=True):
        for name, color, stroke in ((metric, _TRAIN, "-"), (f"eval_{metric}", _EVAL, "--")):
            split = "eval" if name.startswith("eval_") else "train"
            values = [row[name] for row in history]
            panel.plot(
                epochs, values, stroke, color=color, linewidth=1.8, label=split, marker="." if len(epochs) < 3 else ""
            )
        _dress(panel, metric, "epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        _legend(panel)
    best = max(history, key=lambda row: row["eval_accuracy"])
    last = history[-1]
    return Chart(
        _svg(figure, "training"),
        f"Training over {len(history)} epochs: the loss went from {history[0]['loss']:.3g} to {last['loss']:.3g}, the "
        f"accuracy on eval from {history[0]['eval_accuracy']:.2%} to {last['eval_accuracy']:.2%}; the best epoch was "
        f"{best['epoch']:g} with {best['eval_accuracy']:.2%}.",
    )


def classes(examples: Mapping[str, Mapping[str, int]]) -> Chart:
    """Draw how many examples of each class are in each split.

    Args:
        examples: split to class to count.
    """
    totals: dict[str, int] = {}
    for counts in examples.values():
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + count
    shown = list(totals)
    if len(shown) > _MOST_CLASSES:
        ordered = sorted(totals, key=lambda label: -totals[label])
        shown = ordered[: _MOST_CLASSES // 2] + ordered[-_MOST_CLASSES // 2 :]
    from matplotlib.ticker import StrMethodFormatter

    figure = _figure(9.2, 0.9 + 0.24 * len(shown))
    panel = figure.subplots()
    left = [0] * len(shown)
    for split, counts in examples.items():
        widths = [counts.get(label, 0) for label in shown]
        panel.barh(range(len(shown)), widths, left=left, color=_SPLIT_COLORS[split], label=split, height=0.72)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    panel.set_yticks(range(len(shown)), [_plain(label)[:28] for label in shown])
    panel.invert_yaxis()
    _dress(panel, "", "examples", grid="x")
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, labelcolor=_INK, fontsize=9)
    few, many = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    some = (
        f" The {len(shown)} largest and smallest of {len(totals)} classes are shown."
        if len(shown) < len(totals)
        else ""
    )
    span = f"from {totals[few]:,} ({few}) to {totals[many]:,} ({many})"
    if totals[few] == totals[many]:
        span = f"{totals[few]:,} of each"
    return Chart(
        _svg(figure, "classes"),
        f"Examples per class: {span}; "
        + ", ".join(f"{split} {sum(counts.values()):,}" for split, counts in examples.items())
        + f".{some}",
    )


def reliability(bins: Sequence[tuple[float, float, int]], error: float | None) -> Chart:
    """Draw how often the model is right where it is so and so sure.

    Args:
        bins: mean confidence, accuracy and examples per bin.
        error: the expected calibration error, in [0, 1].
    """
    figure = _figure(4.4, 3.6)
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], ":", color=_FAINT, linewidth=1.2)
    most = max(count for _, _, count in bins)
    for confidence, accuracy, count in bins:
        panel.plot([confidence], [accuracy], "o", color=_TRAIN, markersize=3 + 9 * (count / most) ** 0.5, alpha=0.85)
    panel.set_xlim(0, 1.02)
    panel.set_ylim(0, 1.05)
    _dress(panel, "", "confidence")
    panel.set_ylabel("share that is right", color=_INK, fontsize=9)
    surest = bins[-1]
    gap = f" The expected calibration error is {error:.4f}." if error is not None else ""
    return Chart(
        _svg(figure, "reliability"),
        f"Reliability: where the model is surest ({surest[0]:.1%} on average, {surest[2]:,} examples), {surest[1]:.1%} "
        f"of its answers are right; on the dotted line confidence and accuracy are equal.{gap}",
    )


def _plain(label: str) -> str:
    """Return a label that matplotlib draws as it is: no formula, no sign that SVG forbids."""
    from transform.sources.refs import printable

    return printable(label).replace("$", r"\$")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasSVG(figure)
    return figure


def _dress(panel: Any, title: str, across: str, grid: str = "both") -> None:
    """Give a panel the look of the page."""
    panel.patch.set_alpha(0)
    panel.set_title(title, loc="left", fontsize=10, color=_INK)
    panel.set_xlabel(across, fontsize=9, color=_INK)
    panel.tick_params(colors=_FAINT, labelsize=8.5, length=0)
    panel.grid(True, axis=grid, color=_LINE, linewidth=0.8)
    panel.set_axisbelow(True)
    for side, spine in panel.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_LINE)


def _legend(panel: Any) -> None:
    panel.legend(frameon=False, labelcolor=_INK, fontsize=9)


def _svg(figure: Any, name: str) -> str:
    """Return a figure as an `<svg>` element whose colors follow the page, the same text for the same figures."""
    import matplotlib

    text = io.StringIO()
    # Names of clip paths come from the salt; two charts in one page must not share them.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # signs that matplotlib's own font lacks are drawn by the browser's
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)  # styles would leave it
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(
        r'(id="|#)(figure_|axes_|patch_|line2d_|text_|matplotlib\.axis_|xtick_|ytick_|legend_)', rf"\1{name}_\2", svg
    )
    for drawn, named in _STYLE.items():
        svg = svg.replace(drawn, named)
    return re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
