"""Two runs side by side as one HTML page: what differs in config, data and code, and what came of it.

Comes in: two records. Goes out: the page as text, like that of a single run. Called by `slipway report --compare`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.history.ingredients import differences, flat
from pipeline.records import SUCCEEDED, RunRecord
from pipeline.report.gathering import Findings, gather, interval
from pipeline.report.origin import Origin, origin
from pipeline.report.page import STATES, certificate_of, seconds_of
from pipeline.report.templating import INTEGERS, metric, page, percent, percent_range, signed

if TYPE_CHECKING:
    from pipeline.optimizing.results import Certificate
    from pipeline.workdir import WorkDir

_MOST_CLASSES = 16
_SHARES = frozenset({"accuracy", "top_k_accuracy"})
"""Metrics that are shares of the examples, so that they have an interval."""

_LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error"})
_DIGITS = 12
"""Of a hash."""


@dataclass(frozen=True)
class Compared:
    """A value in two runs."""

    name: str
    first: str
    second: str
    change: str = ""
    better: str = ""
    """`first`, `second` or empty where neither is."""
    intervals: tuple[str, str] = ("", "")
    """Of both values, 95 %, in words."""


def render_comparison(first: RunRecord, second: RunRecord, workdir: WorkDir | None = None) -> str:
    """Return two runs side by side: verdicts, metrics, what differs, training, forms, times.

    Args:
        first: run A, usually the older one.
        second: run B.
        workdir: where they ran; its metadata store is asked for the data and the code.
    """
    a, b = gather(first), gather(second)
    origins = origin(first, workdir), origin(second, workdir)
    return page(
        "comparison.html.j2",
        runs=(first, second),
        seconds=[seconds_of(run) for run in (first, second)],
        recorded=bool(first.settings and second.settings),
        good=[run.state == SUCCEEDED for run in (first, second)],
        gates=_gates(first, second),
        metrics=_metrics(a, b),
        accuracy=_accuracy_in_words(a, b),
        classes=_classes(a, b),
        settings=_settings(first.settings, second.settings),
        data=_data(a, b, origins),
        code=_code(first, second, origins),
        charts=_charts(a, b),
        trials=_trials(a, b),
        forms=_forms(certificate_of(a), certificate_of(b)),
        stages=_stages(first, second),
        states=STATES,
    )


def _gates(first: RunRecord, second: RunRecord) -> list[tuple[str, Any, Any]]:
    """Return the verdicts of both runs, paired by gate."""
    return _paired(*({verdict["gate"]: verdict for verdict in run.verdicts} for run in (first, second)))


def _stages(first: RunRecord, second: RunRecord) -> list[tuple[str, Any, Any]]:
    return _paired(*({stage.id: stage for stage in record.stages} for record in (first, second)))


def _forms(first: Certificate | None, second: Certificate | None) -> list[tuple[str, Any, Any]]:
    return _paired(*({row.variant: row for row in side.rows} if side else {} for side in (first, second)))


def _paired(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(name, first.get(name), second.get(name)) for name in dict.fromkeys([*first, *second])]


def _metrics(first: Findings, second: Findings) -> list[Compared]:
    """Return the metrics of two runs on their whole splits; shares with their intervals."""
    found = [run.evaluation.overall if run.evaluation else {} for run in (first, second)]
    counts = [side.get("example_count") for side in found]
    return [
        _compared(name, (a, b), counts if name in _SHARES else (), name in _LOWER_IS_BETTER)
        for name, a, b in _paired(*found)
    ]


def _compared(
    name: str,
    values: tuple[float | None, float | None],
    examples: Sequence[float | None] = (),
    lower_is_better: bool = False,
) -> Compared:
    first, second = values
    change, better = "", ""
    if first is not None and second is not None and name not in INTEGERS:
        change = signed(second - first)
        if metric(first, name) != metric(second, name):
            better = "second" if (second < first) == lower_is_better else "first"
    ends = [percent_range(interval(*pair)) for pair in zip(values, examples, strict=False)] or ["", ""]
    return Compared(
        name.replace("_", " "), metric(first, name), metric(second, name), change, better, (ends[0], ends[1])
    )


def _accuracy_in_words(first: Findings, second: Findings) -> str:
    """Return both accuracies with their intervals, and whether chance explains the difference."""
    if first.evaluation is None or second.evaluation is None:
        return ""
    figures = [
        (e.overall.get("accuracy"), e.overall.get("example_count")) for e in (first.evaluation, second.evaluation)
    ]
    shown = [
        f"{percent(share)} (95 % interval {percent_range(interval(share, n))})"
        for share, n in figures
        if share is not None
    ]
    if len(shown) < 2:
        return ""
    return f"Accuracy is {shown[0]} in A and {shown[1]} in B. {_paired_change(first, second)}"


def _paired_change(first: Findings, second: Findings) -> str:
    """Return the interval of the difference on the images that both runs predicted."""
    from serving.measure.quality import paired_interval

    a, b = (found.predictions.right if found.predictions else {} for found in (first, second))
    common = a.keys() & b.keys()
    if not common:
        return "The runs didn't predict the same images, so the difference has no interval."
    counts = [sum((b[image], a[image]) == pair for image in common) for pair in _PAIRS]
    low, high = paired_interval(*counts)
    change = (counts[1] - counts[2]) / len(common)
    verdict = "more than chance explains" if low > 0 or high < 0 else "chance alone may explain it"
    return (
        f"On the {len(common):,} images that both predicted, B is {signed(100 * change, 2)} points from A "
        f"(95 % interval {signed(100 * low, 2)} to {signed(100 * high, 2)}, paired): {verdict}. "
        f"{counts[1]:,} images are right in B only, {counts[2]:,} in A only."
    )


_PAIRS = ((True, True), (True, False), (False, True), (False, False))


def _classes(first: Findings, second: Findings) -> list[Compared]:
    """Return the recall of the classes, those that changed most first."""
    sides = [run.evaluation for run in (first, second)]
    found = [{label: v.get("recall") for label, v in side.per_class.items()} if side else {} for side in sides]
    ordered = sorted(_paired(*found), key=lambda row: -abs((row[2] or 0.0) - (row[1] or 0.0)))
    rows = []
    for label, a, b in ordered[:_MOST_CLASSES]:
        support = [side.support.get(label) if side else None for side in sides]
        rows.append(replace(_compared("recall", (a, b), support), name=label))
    return rows


def _settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Compared]:
    """Return the settings that differ, by their dotted names."""
    return _differing(flat(first), flat(second))


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Compared]:
    return [Compared(found.name, _text(found.a), _text(found.b)) for found in differences(first, second)]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _data(first: Findings, second: Findings, origins: Iterable[Origin]) -> list[Compared]:
    """Return content, examples by split, and classes that only one run has or whose number changed."""
    known = [_known_data(found, side) for found, side in zip((first, second), origins, strict=True)]
    always = {"content", "classes", "train", "eval", "test"}
    return [Compared(name, a or "", b or "") for name, a, b in _paired(*known) if name in always or a != b]


def _known_data(found: Findings, side: Origin) -> dict[str, str]:
    facts = {"content": side.data[:_DIGITS]} if side.data else {}
    if found.ingestion is None:
        return facts
    ingestion = found.ingestion
    facts["classes"] = f"{len(ingestion['labels']):,}"
    totals: dict[str, int] = {}
    for split, counts in ingestion["examples"].items():
        facts[split] = f"{sum(counts.values()):,}"
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + count
    facts["unreadable"] = f"{ingestion['unreadable']['count']:,}"
    facts["exact copies"] = f"{ingestion['duplicates']['copies']:,}"
    facts["contents under two labels"] = f"{ingestion['conflicts']['contents']:,}"
    return facts | {f"class {label}": f"{count:,}" for label, count in totals.items()}


def _code(first: RunRecord, second: RunRecord, origins: tuple[Origin, Origin]) -> list[Compared]:
    """Return commit, libraries and machine where they differ, and how many modules do."""
    rows = _differing(first.environment, second.environment)
    code = [side.code for side in origins]
    # A run that ended early has fewer modules behind it; only those behind both can differ.
    modules = sorted(name for name in code[0].keys() & code[1].keys() if code[0][name] != code[1][name])
    if modules:
        named = ", ".join(modules[:5]) + (f" and {len(modules) - 5} more" if len(modules) > 5 else "")
        rows.append(Compared("modules that differ", "", named))
    return rows


def _charts(first: Findings, second: Findings) -> list[Any]:
    if not first.history and not second.history:
        return []
    from pipeline.report import charts

    return [charts.overlay(first.history, second.history, name) for name in ("loss", "accuracy")]


def _trials(first: Findings, second: Findings) -> list[Compared]:
    """Return what the best trial of each search was."""
    best = [found.trials[0] if found.trials else {} for found in (first, second)]
    words = [
        {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in trial.items()}
        | {"trials": str(len(found.trials))}
        for trial, found in zip(best, (first, second), strict=True)
        if trial or any(best)
    ]
    if len(words) < 2:
        return []
    return [Compared(name.replace("_", " "), a or "", b or "") for name, a, b in _paired(*words) if name != "trial_id"]
