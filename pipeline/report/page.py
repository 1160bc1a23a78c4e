"""The report of a run as one HTML page, and two runs side by side.

Comes in: records of runs. Goes out: the page as text, with everything it needs inside: no network, no scripts, so it
can be mailed, printed and kept. Called by `slipway report`. Text of the data (class names, file names) is escaped by
the template engine.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.records import HIT, RAN, RESOLVED, SUCCEEDED, RunRecord
from pipeline.report.gathering import Findings, gather
from pipeline.report.pictures import Gallery, collect

_TEMPLATES = Path(__file__).parent
_MOST_CONFUSED = 8
_LARGEST_MATRIX = 16
"""Classes; of more, only the pairs that are confused most are shown."""

_LOWER_IS_BETTER = frozenset({"log_loss", "calibration_error"})


@dataclass(frozen=True)
class Compared:
    """A value in two runs."""

    name: str
    first: str
    second: str
    better: str = ""
    """`first`, `second` or empty where neither is."""


def render(record: RunRecord) -> str:
    """Return the report of a run.

    Args:
        record: of the run.
    """
    findings = gather(record)
    return _page("report.html.j2", **_content(findings, collect(findings)))


def render_comparison(first: RunRecord, second: RunRecord) -> str:
    """Return two runs side by side: metrics, verdicts, forms, settings that differ, times.

    Args:
        first: the older run.
        second: the newer run.
    """
    pair = gather(first), gather(second)
    return _page(
        "comparison.html.j2",
        runs=(first, second),
        metrics=_metrics(*pair),
        classes=_classes(*pair),
        settings=_settings(first.settings, second.settings),
        data=_data(*pair),
        stages=_stages(first, second),
        forms=_forms(*pair),
        charts=[_chart("training", findings.history) if findings.history else None for findings in pair],
    )


def _content(findings: Findings, gallery: Gallery) -> dict[str, Any]:
    """Return what the template shows of one run."""
    record, evaluation, ingestion = findings.record, findings.evaluation, findings.ingestion
    charts = {"training": _chart("training", findings.history) if findings.history else None}
    if ingestion is not None:
        charts["classes"] = _chart("classes", ingestion["examples"])
    if evaluation is not None and evaluation.reliability:
        charts["reliability"] = _chart("reliability", evaluation.reliability, evaluation.overall["calibration_error"])
    certificate = _certificate(findings.forms)
    return {
        "run": record,
        "good": record.state == SUCCEEDED,
        "facts": _headline(findings),
        "findings": findings,
        "gallery": gallery,
        "charts": charts,
        "matrix": evaluation is not None and len(evaluation.labels) <= _LARGEST_MATRIX,
        "confused": _confused(evaluation.labels, evaluation.confusion) if evaluation is not None else [],
        "certificate": certificate,
        "front": _picture(findings.forms / "front.svg") if findings.forms is not None else "",
        "slowest": max([stage.seconds for stage in record.stages] or [0.0]) or 1.0,
        "states": {HIT: "cached", RAN: "ran", RESOLVED: "looked up"},
        "config": _config_text(record.settings),
        "wide": sum(len(row) for row in findings.trials[:1]),
    }


def _headline(findings: Findings) -> list[tuple[str, str]]:
    """Return the few figures that stand at the top."""
    facts = []
    if findings.evaluation is not None and (accuracy := findings.evaluation.overall.get("accuracy")) is not None:
        before = (findings.evaluation.baseline or {}).get("accuracy")
        change = f" ({100 * (accuracy - before):+.2f} points against the baseline)" if before is not None else ""
        facts.append(("Accuracy", f"{accuracy:.2%}{change}"))
    if findings.ingestion is not None:
        facts.append(("Examples", f"{findings.ingestion['written']:,} in {len(findings.ingestion['labels'])} classes"))
    record = findings.record
    if record.version is not None:
        facts.append(("Published", f"version {record.version}"))
    cached = sum(stage.state == HIT for stage in record.stages)
    facts.append(("Time", f"{record.seconds:,.0f} s, {cached} of {len(record.stages)} stages from the cache"))
    return facts


def _chart(kind: str, *figures: Any) -> Any:
    from pipeline.report import charts

    return getattr(charts, kind)(*figures)


def _confused(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[tuple[str, str, int, float]]:
    """Return the pairs of true and predicted class that are confused most: names, examples, share of the class."""
    pairs = [
        (labels[row], labels[column], count, count / sum(counts))
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:_MOST_CONFUSED]


def _certificate(folder: Path | None) -> Any:
    """Return the forms' table and picks."""
    if folder is None:
        return None
    from pipeline.optimizing import results

    return results.read(folder)


def _picture(path: Path) -> str:
    """Return an SVG file as a data URL; empty if it is missing."""
    if not path.is_file():
        return ""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _config_text(settings: Mapping[str, Any]) -> str:
    """Return the effective config as YAML; as it was written down where today's config has other keys."""
    if not settings:
        return ""
    from pydantic import ValidationError

    from pipeline.config.config import Config
    from pipeline.config.show import render_yaml

    try:
        return render_yaml(Config.model_validate(dict(settings)))
    except ValidationError:
        import json

        return json.dumps(settings, indent=2)


def _metrics(first: Findings, second: Findings) -> list[Compared]:
    """Return the metrics of two runs on their whole splits."""
    a, b = (found.evaluation.overall if found.evaluation else {} for found in (first, second))
    return [_figures(name, a.get(name), b.get(name), name in _LOWER_IS_BETTER) for name in [*a, *(b.keys() - a.keys())]]


def _classes(first: Findings, second: Findings) -> list[Compared]:
    """Return the recall of the classes, those that changed most first."""
    a, b = (found.evaluation.per_class if found.evaluation else {} for found in (first, second))
    recalls = {
        label: (a.get(label, {}).get("recall"), b.get(label, {}).get("recall"))
        for label in [*a, *(b.keys() - a.keys())]
    }
    ordered = sorted(recalls, key=lambda label: -abs((recalls[label][1] or 0.0) - (recalls[label][0] or 0.0)))
    return [_figures(label, *recalls[label], False) for label in ordered[:_LARGEST_MATRIX]]


def _figures(name: str, first: float | None, second: float | None, lower_is_better: bool) -> Compared:
    words = [
        "" if value is None else f"{value:,.0f}" if name == "example_count" else f"{value:.4f}"
        for value in (first, second)
    ]
    better = ""
    if first is not None and second is not None and first != second and name != "example_count":
        better = "second" if (second < first) == lower_is_better else "first"
    return Compared(name, words[0], words[1], better)


def _settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Compared]:
    """Return the settings that differ, by their dotted names."""
    a, b = dict(_leaves(first)), dict(_leaves(second))
    return [
        Compared(name, str(a.get(name, "")), str(b.get(name, "")))
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Any:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _data(first: Findings, second: Findings) -> list[Compared]:
    """Return how many examples of which split two runs had."""
    counts = [
        {split: sum(classes.values()) for split, classes in found.ingestion["examples"].items()}
        if found.ingestion
        else {}
        for found in (first, second)
    ]
    return [
        Compared(split, *(f"{count[split]:,}" if split in count else "" for count in counts))
        for split in dict.fromkeys([*counts[0], *counts[1]])
    ]


def _stages(first: RunRecord, second: RunRecord) -> list[tuple[str, Any, Any]]:
    """Return the stages of both runs, paired by their names."""
    a, b = ({stage.id: stage for stage in record.stages} for record in (first, second))
    return [(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])]


def _forms(first: Findings, second: Findings) -> list[tuple[str, Any, Any]]:
    """Return the forms of both runs, paired by their names."""
    a, b = (
        {row.variant: row for row in certificate.rows} if (certificate := _certificate(found.forms)) else {}
        for found in (first, second)
    )
    return [(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])]


@cache
def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["percent"] = lambda value, places=2: "" if value is None else f"{value:.{places}%}"
    environment.filters["kilobytes"] = lambda value: "" if value is None else f"{value / 1000:,.1f}"
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment


def _figure(value: Any, places: int = 4) -> str:
    """Return a number as a table shows it; what doesn't exist is empty."""
    if value is None:
        return ""
    return f"{value:.{places}f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _page(template: str, **content: Any) -> str:
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return str(_environment().get_template(template).render(style=style, **content))
