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
from typing import TYPE_CHECKING, Any

from pipeline.report.templating import short

if TYPE_CHECKING:
    from pipeline.optimizing.results import Certificate

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

_CERTIFIED_STYLE = {
    "#222222": "var(--ink)",
    "#777777": "var(--soft)",
    "#000000": "var(--ink)",
    "#e6e6e6": "var(--line)",
    "#bbbbbb": "var(--line)",
    "#999999": "var(--soft)",
    "#ffffff": "var(--card)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--orange)",
    "#009e73": "var(--green)",
}
"""The same for the picture of `serving.certify`, which also stands alone."""

_SPLIT_COLORS = {"train": _TRAIN, "eval": _EVAL, "test": _TEST}
_MOST_CLASSES = 40
_MOST_FORMS = 12
_TITLE = 43
"""Points that the picture of the forms keeps free for a title."""


History = Sequence[Mapping[str, float]]
"""One mapping per epoch."""


@dataclass(frozen=True)
class Chart:
    """A picture and its words."""

    svg: str
    words: str
    """What the picture shows, as a sentence with figures."""


def training(history: History, metric: str) -> Chart:
    """Draw loss or accuracy over the epochs.

    Args:
        history: one mapping per epoch: `epoch`, `loss`, `accuracy`, `eval_loss`, `eval_accuracy`.
        metric: `loss` or `accuracy`.
    """
    figure = _figure(4.7, 3.0)
    panel = figure.subplots()
    _line(panel, history, metric, _TRAIN, "-", "train")
    _line(panel, history, f"eval_{metric}", _EVAL, "--", "eval")
    _finish_curve(panel, metric)
    first, last = history[0], history[-1]
    if metric == "loss":
        words = (
            f"Loss over {_epochs(history)} (cross-entropy in nats, lower is better): on train from {first['loss']:.3g} "
            f"to {last['loss']:.3g}, on eval from {first['eval_loss']:.3g} to {last['eval_loss']:.3g}."
        )
    else:
        best = max(history, key=lambda row: row["eval_accuracy"])
        words = (
            f"Accuracy over {_epochs(history)}: on eval from {first['eval_accuracy']:.2%} to "
            f"{last['eval_accuracy']:.2%}, on train {last['accuracy']:.2%} in the end; the best epoch on eval was "
            f"{best['epoch']:g} with {best['eval_accuracy']:.2%}."
        )
    return Chart(_svg(figure, f"training-{metric}"), words)


def overlay(first: History, second: History, metric: str) -> Chart:
    """Draw the loss or the accuracy of two runs, A and B, over each other.

    Args:
        first: the history of A, as in `training`; empty if it has none.
        second: that of B.
        metric: `loss` or `accuracy`.
    """
    figure = _figure(4.7, 3.0)
    panel = figure.subplots()
    words = []
    for name, history, color, stroke in (("A", first, _TRAIN, "-"), ("B", second, _EVAL, "--")):
        if not history:
            continue
        _line(panel, history, f"eval_{metric}", color, stroke, f"{name}, eval")
        _line(panel, history, metric, color, ":", f"{name}, train", width=1.0)
        words.append(f"{name} ends at {history[-1][f'eval_{metric}']:.4g} after {_epochs(history)}")
    _finish_curve(panel, metric)
    return Chart(_svg(figure, f"overlay-{metric}"), f"{metric.capitalize()} on eval: {', '.join(words)}.")


def trials(found: Sequence[Mapping[str, Any]], name: str) -> Chart | None:
    """Draw the score of each trial of a search against one hyperparameter.

    Args:
        found: one mapping per trial, with `score`; the best first.
        name: of the hyperparameter.

    Returns:
        The chart; None where the hyperparameter has no two different numbers.
    """
    points = [
        (trial[name], trial["score"])
        for trial in found
        if all(isinstance(trial.get(key), (int, float)) for key in (name, "score"))
    ]
    across = [value for value, _ in points]
    if len(set(across)) < 2:
        return None
    figure = _figure(3.5, 2.4)
    panel = figure.subplots()
    panel.plot(across[1:], [score for _, score in points[1:]], "o", color=_TRAIN, markersize=6, label="trial")
    panel.plot(across[:1], [points[0][1]], "D", color=_EVAL, markersize=8, label="best trial")
    wide = min(across) > 0 and max(across) / min(across) > 30
    panel.margins(0.1)
    if wide:
        panel.set_xscale("log")
    else:
        panel.locator_params(axis="x", nbins=5)
    label = _plain(name.replace("_", " "))
    _dress(panel, "", f"{label} (log scale)" if wide else label)
    panel.set_ylabel("accuracy on eval", color=_INK, fontsize=9)
    _legend(panel)
    return Chart(
        _svg(figure, f"trials-{re.sub('[^a-z0-9]+', '-', name.lower())}"),
        f"Score of {len(points)} trials by {name.replace('_', ' ')}: the best reached {points[0][1]:.4g} at "
        f"{points[0][0]:.4g}; tried were {min(across):.3g} to {max(across):.3g}.",
    )


def _line(panel: Any, history: History, name: str, color: str, stroke: str, label: str, width: float = 1.8) -> None:
    epochs = [row["epoch"] for row in history]
    marker = "." if len(epochs) < 3 else ""
    panel.plot(epochs, [row[name] for row in history], stroke, color=color, linewidth=width, label=label, marker=marker)


def _finish_curve(panel: Any, metric: str) -> None:
    _dress(panel, "", "epoch")
    panel.set_ylabel("loss, nats" if metric == "loss" else metric, color=_INK, fontsize=9)
    panel.xaxis.get_major_locator().set_params(integer=True)
    _legend(panel)


def _epochs(history: History) -> str:
    return "1 epoch" if len(history) == 1 else f"{len(history)} epochs"


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

    figure = _figure(4.9, 0.9 + 0.22 * len(shown))
    panel = figure.subplots()
    left = [0] * len(shown)
    for split, counts in examples.items():
        widths = [counts.get(label, 0) for label in shown]
        panel.barh(range(len(shown)), widths, left=left, color=_SPLIT_COLORS[split], label=split, height=0.72)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    panel.set_yticks(range(len(shown)), [_plain(short(label, 24)) for label in shown])
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
    from serving.measure.quality import wilson_interval

    figure = _figure(4.7, 3.6)
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], ":", color=_FAINT, linewidth=1.2)
    most = max(count for _, _, count in bins)
    for confidence, accuracy, count in bins:
        low, high = wilson_interval(round(accuracy * count), count)
        panel.plot([confidence, confidence], [low, high], "-", color=_TRAIN, linewidth=1, alpha=0.6)
        panel.plot([confidence], [accuracy], "o", color=_TRAIN, markersize=3 + 9 * (count / most) ** 0.5, alpha=0.85)
    panel.set_xlim(0, 1.02)
    panel.set_ylim(0, 1.05)
    _dress(panel, "", "confidence (probability of the answer)")
    panel.set_ylabel("share of answers that is right", color=_INK, fontsize=9)
    surest = bins[-1]
    gap = (
        f" The expected calibration error is {error:.4f}: so far confidence and accuracy lie apart on average."
        if error is not None
        else ""
    )
    return Chart(
        _svg(figure, "reliability"),
        f"Reliability: where the model is surest ({surest[0]:.1%} on average, {surest[2]:,} examples), {surest[1]:.1%} "
        f"of its answers are right. On the dotted line confidence and accuracy are equal; the larger a point, the more "
        f"examples; bars are 95 % intervals.{gap}",
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


def forms(certificate: Certificate, words: str) -> Chart:
    """Draw accuracy of every form against its size and its time, with the Pareto front.

    Args:
        certificate: of the Optimizer.
        words: what the picture shows.
    """
    import tempfile
    from pathlib import Path

    from serving.certify.picture import draw

    size = (4.7, 4.9 if len(certificate.rows) <= _MOST_FORMS else 7.5)
    with tempfile.TemporaryDirectory(prefix="slipway-report-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn, _ = draw(certificate.rows, Path(scratch, "front"), title="", picks=certificate.picks, panel=size)
        svg = drawn.read_text(encoding="utf-8")
    # Without a title the upper edge is empty.
    svg = re.sub(
        r'viewBox="0 0 ([\d.]+) ([\d.]+)"',
        lambda box: f'viewBox="0 {_TITLE:g} {box[1]} {float(box[2]) - _TITLE:g}"',
        svg,
        count=1,
    )
    return Chart(_in_page(svg, "forms", _CERTIFIED_STYLE), words)


def _svg(figure: Any, name: str) -> str:
    """Return a figure as an `<svg>` element whose colors follow the page, the same text for the same figures."""
    import matplotlib

    text = io.StringIO()
    # Names of clip paths come from the salt; two charts in one page must not share them.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # signs that matplotlib's own font lacks are drawn by the browser's
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _in_page(text.getvalue(), name, _STYLE)


def _in_page(svg: str, name: str, style: Mapping[str, str]) -> str:
    """Return matplotlib's file as an element of the page: its size and its colors are the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)  # styles would leave it
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(
        r'(id="|#)(figure_|axes_|patch_|line2d_|text_|matplotlib\.axis_|xtick_|ytick_|legend_|FillBetween)',
        rf"\1{name}_\2",
        svg,
    )
    for drawn, named in style.items():
        svg = svg.replace(drawn, named)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    return re.sub(r"font: (bold )?([\d.]+px) [^;\"]*", _font, svg)


def _font(found: re.Match[str]) -> str:
    """Return size and weight of the letters; the family is the page's."""
    weight = "font-weight: bold; " if found[1] else ""
    return f"{weight}font-size: {found[2]}"
