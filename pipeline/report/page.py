"""The report of a run as one HTML page.

Comes in: the record of a run. Goes out: the page as text, with everything it needs inside: no network, no scripts, so
it can be mailed, printed and kept. Called by `slipway report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.records import (
    FAILED,
    HIT,
    INTERRUPTED,
    LEFT_OUT,
    PENDING,
    RAN,
    REFUSED,
    RESOLVED,
    RUNNING,
    STAGE_FAILED,
    SUCCEEDED,
    RunRecord,
    StageRecord,
)
from pipeline.report import origin
from pipeline.report.gathering import Evaluation, Findings, gather, interval
from pipeline.report.pictures import Gallery, collect
from pipeline.report.settings import as_yaml, chosen
from pipeline.report.templating import duration, page, percent, percent_range, signed, within

if TYPE_CHECKING:
    from pipeline.optimizing.results import Certificate
    from pipeline.workdir import WorkDir

_MOST_CONFUSED = 8
_LARGEST_MATRIX = 16
"""Classes; of more, only the pairs that are confused most are shown."""

_TRIAL_CHARTS = ("learning_rate", "dropout", "weight_decay", "batch_size", "width")
_MOST_TRIAL_CHARTS = 3
_MOST_ROWS = 24
"""Of classes and slices; more of them are folded."""

STATES = {
    HIT: "cached",
    RAN: "ran",
    RESOLVED: "looked up",
    PENDING: "not reached",
    LEFT_OUT: "left out",
    STAGE_FAILED: "failed",
}
"""States of a stage in words."""

_NEXT = {
    REFUSED: "A gate refused, so nothing new was published; the version that was in service before stays there.",
    FAILED: "What had been done is kept: after the cause is removed, the same command goes on from there.",
    INTERRUPTED: "The run was stopped from outside. The same command goes on where it stopped.",
    RUNNING: "The run is still going on; this page shows what there is so far.",
}
"""What the end of a run means."""

_WITHOUT = {
    "ExampleGen": "",
    "Trainer": "",
    "Tuner": "No search was asked for (`tune.mode`), so the training used the settings as they are.",
    "Evaluator": "",
    "Optimizer": "No further forms were asked for (`compress.variants`); the SavedModel is what ships.",
    "BulkInferrer": "Predictions were not asked for (`bulk_infer.enabled`), so there are no mistakes to show.",
}
"""What it means that a run has no such stage."""


def render(record: RunRecord, workdir: WorkDir | None = None) -> str:
    """Return the report of a run.

    Args:
        record: of the run.
        workdir: where it ran; paths are shown as seen from there, and its metadata store is asked for the lineage.
    """
    findings = gather(record)
    return page("report.html.j2", **_content(findings, collect(findings), workdir))


def _content(findings: Findings, gallery: Gallery, workdir: WorkDir | None) -> dict[str, Any]:
    """Return what the template shows of one run."""
    record, evaluation = findings.record, findings.evaluation
    root = workdir.root if workdir is not None else None
    certificate = certificate_of(findings)
    return {
        "run": record,
        "good": record.state == SUCCEEDED,
        "next": _NEXT.get(record.state, ""),
        "failed": [stage.id for stage in record.stages if stage.state == STAGE_FAILED],
        "facts": _headline(findings),
        "findings": findings,
        "absent": {stage: why_absent(findings, stage) for stage in _WITHOUT},
        "gallery": gallery,
        "charts": _charts(findings, certificate),
        "matrix": evaluation is not None and len(evaluation.labels) <= _LARGEST_MATRIX,
        "confused": _confused(evaluation.labels, evaluation.confusion) if evaluation is not None else [],
        "labels": _ordered(evaluation),
        "source": _source(findings),
        "interval": interval,
        "top_k": record.settings.get("evaluate", {}).get("top_k", "k"),
        "most_rows": _MOST_ROWS,
        "certificate": certificate,
        "origin": origin.origin(record, workdir),
        "published": origin.published(record, root),
        "places": {"config file": within(root, record.config), "log": within(root, record.log)},
        "artifacts": {stage.id: [within(root, path) for path in stage.outputs] for stage in record.stages},
        "slowest": max([stage.seconds for stage in record.stages] or [0.0]) or 1.0,
        "total": (sum(stage.seconds for stage in record.stages), sum(stage.cpu_seconds for stage in record.stages)),
        "states": STATES,
        "config": as_yaml(record.settings),
        "chosen": chosen(record.settings),
    }


def _headline(findings: Findings) -> list[tuple[str, str, str]]:
    """Return the few figures that stand at the top: name, figure, and what belongs to it."""
    facts = []
    if findings.evaluation is not None and (accuracy := findings.evaluation.overall.get("accuracy")) is not None:
        examples = findings.evaluation.overall.get("example_count")
        before = (findings.evaluation.baseline or {}).get("accuracy")
        details = [f"95 % interval {percent_range(ends)}" if (ends := interval(accuracy, examples)) else ""]
        if before is not None:
            details.append(f"{signed(100 * (accuracy - before), 2)} points against the baseline")
        split = findings.record.settings.get("evaluate", {}).get("split", "")
        facts.append(
            (f"Accuracy on {split}" if split else "Accuracy", percent(accuracy), "; ".join(filter(None, details)))
        )
    if findings.ingestion is not None:
        splits = ", ".join(f"{split} {sum(c.values()):,}" for split, c in findings.ingestion["examples"].items())
        facts.append(
            ("Examples", f"{findings.ingestion['written']:,} in {len(findings.ingestion['labels'])} classes", splits)
        )
    record = findings.record
    if record.version is not None:
        also = [name for name, made in (("mobile bundle", record.bundle), ("server forms", record.forms)) if made]
        facts.append(("Published", f"version {record.version}", f"with {' and '.join(also)}" if also else ""))
    if record.stages:
        cached = sum(stage.state == HIT for stage in record.stages)
        facts.append(("Time", duration(seconds_of(record)), f"{cached} of {len(record.stages)} stages from the cache"))
    return facts


def seconds_of(record: RunRecord) -> float:
    """Return how long a run took; of one that has no end, how long its stages did.

    Args:
        record: of the run.
    """
    return record.seconds or sum(stage.seconds for stage in record.stages)


def why_absent(findings: Findings, name: str) -> str:
    """Return why a run has nothing to show of a stage, as a sentence; empty where nothing is to be said.

    Args:
        findings: of the run.
        name: of the stage.
    """
    stage = next((stage for stage in findings.record.stages if stage.id == name), None)
    if stage is None:
        return _WITHOUT[name] if findings.record.stages else ""
    return _why_without_files(stage, name in findings.gone)


def _why_without_files(stage: StageRecord, gone: bool) -> str:
    if gone:
        return f"The files of {stage.id} were removed since (`slipway runs gc`, or by hand)."
    words = {
        PENDING: "The run ended before the end of",
        LEFT_OUT: "`--from` or `--to` left out",
        STAGE_FAILED: "Nothing came out, since there was a failure in",
    }
    return f"{words[stage.state]} {stage.id}." if stage.state in words else f"{stage.id} left nothing to show here."


def _ordered(evaluation: Evaluation | None) -> list[str]:
    """Return the classes; if they are many, those first of which the model finds least."""
    if evaluation is None:
        return []
    labels = list(evaluation.per_class)
    if len(labels) <= _MOST_ROWS:
        return labels
    return sorted(labels, key=lambda label: evaluation.per_class[label]["recall"] or 0.0)


def _source(findings: Findings) -> str:
    """Return what the data are called: the source of the config without the folders above it."""
    configured = str(findings.record.settings.get("data", {}).get("source", "")).rstrip("/")
    reported = findings.ingestion["source"] if findings.ingestion is not None else ""
    return configured.rpartition("/")[2] or reported


def _charts(findings: Findings, certificate: Certificate | None) -> dict[str, Any]:
    """Return the charts by name; those without figures are missing."""
    from pipeline.report import charts

    ingestion, evaluation = findings.ingestion, findings.evaluation
    found: dict[str, Any] = {"training": [], "trials": []}
    if ingestion is not None and ingestion["examples"]:
        found["classes"] = charts.classes(ingestion["examples"])
    if findings.history:
        found["training"] = [charts.training(findings.history, metric) for metric in ("loss", "accuracy")]
    drawn = (charts.trials(findings.trials, name) for name in _TRIAL_CHARTS)
    found["trials"] = [chart for chart in drawn if chart is not None][:_MOST_TRIAL_CHARTS]
    if evaluation is not None and evaluation.reliability:
        found["reliability"] = charts.reliability(evaluation.reliability, evaluation.overall.get("calibration_error"))
    if certificate is not None:
        found["forms"] = charts.forms(certificate, _front_in_words(certificate))
    return found


def _front_in_words(certificate: Certificate) -> str:
    rows = {row.variant: row for row in certificate.rows}
    best = ", ".join(
        f"{name} ({percent(rows[name].accuracy)}, {(rows[name].gz_bytes or 0) / 1000:,.0f} kB)"
        for name in certificate.front
    )
    return (
        "Accuracy of every form against the size of its download and against its time. "
        f"On the Pareto front, where no other form is better in accuracy, size and time at once: {best or 'none'}."
    )


def certificate_of(findings: Findings) -> Certificate | None:
    """Return the forms' table and picks; None where there are none, or their file is damaged."""
    if findings.forms is None:
        return None
    from pipeline.optimizing import results
    from serving.errors import ServingError

    try:
        return results.read(findings.forms)
    except (OSError, ServingError, KeyError):
        return None


def _confused(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[tuple[str, str, int, float]]:
    """Return the pairs of true and predicted class that are confused most: names, examples, share of the class."""
    pairs = [
        (labels[row], labels[column], count, count / sum(counts))
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:_MOST_CONFUSED]
