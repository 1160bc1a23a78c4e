"""What a report says, taken from a run's record and from the files that its stages left.

Comes in: a run's record. Goes out: `Findings`, plain data by section; a section is None where the run has no such
stage or its files are gone, so that an old or interrupted run has a report too. Called by `pipeline.report.page`.
Imports neither TensorFlow nor matplotlib.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.records import RunRecord, StageRecord

T = TypeVar("T")

HISTORY_FILE = "history.json"
TRIALS_FILE = "tuner_results.json"
SUMMARY_FILE = "summary.json"
INGESTION_FILE = "ingest_report.json"
_MOST_MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """An example that the model got wrong."""

    origin: str
    digest: str
    label: str
    predicted: str
    probability: float
    """Of the wrong class, in [0, 1]."""


@dataclass(frozen=True)
class Predictions:
    """What the BulkInferrer wrote down about a split."""

    examples: int
    wrong: int
    mistakes: list[Mistake]
    """The wrong answers that the model was surest of, the surest first."""
    right: dict[str, bool] = field(default_factory=dict)
    """Whether the answer is right, by the digest of the image."""


@dataclass(frozen=True)
class Evaluation:
    """What the Evaluator found."""

    labels: list[str]
    overall: dict[str, float | None]
    """Metrics of the candidate on the whole split."""
    baseline: dict[str, float | None] | None
    """Those of the model before it, if there was one."""
    per_class: dict[str, dict[str, float | None]]
    support: dict[str, int]
    """Examples by class."""
    confusion: list[list[int]]
    """Rows are true classes, columns predicted ones."""
    reliability: list[tuple[float, float, int]]
    """Mean confidence, accuracy and examples of each bin of the confidence."""
    slices: list[tuple[str, dict[str, float | None]]]
    """The least accurate first."""

    def recall_interval(self, label: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a class's recall; None for a class without examples."""
        return interval(self.per_class[label]["recall"], self.support[label])


@dataclass(frozen=True)
class Findings:
    """A run, by section."""

    record: RunRecord
    ingestion: dict[str, Any] | None = None
    statistics: list[dict[str, Any]] = field(default_factory=list)
    anomalies: list[dict[str, str]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    evaluation: Evaluation | None = None
    predictions: Predictions | None = None
    forms: Path | None = None
    """Folder of the Optimizer's results."""
    examples: Path | None = None
    """Folder of the examples artifact."""
    model: Path | None = None
    """Folder of the SavedModel."""
    gone: list[str] = field(default_factory=list)
    """Stages whose files were removed since."""


def interval(share: float | None, examples: float | None) -> tuple[float, float] | None:
    """Return the 95 % interval of a share that was counted on so many examples; None where nothing was counted."""
    from serving.measure.quality import wilson_interval

    if share is None or not examples:
        return None
    return wilson_interval(round(share * examples), int(examples))


def gather(record: RunRecord) -> Findings:
    """Return what there is to say about a run.

    Args:
        record: of the run.
    """
    from pipeline.optimizing import results
    from pipeline.report import statistics

    examples = _holding(record, "ExampleGen", INGESTION_FILE)
    optimizer = _stage(record, "Optimizer")
    return Findings(
        record,
        ingestion=_json(examples, INGESTION_FILE),
        statistics=_read(statistics.features, _folder(record, "StatisticsGen", "statistics")) or [],
        anomalies=_read(statistics.anomalies, _folder(record, "ExampleValidator", "anomalies")) or [],
        history=_json(_holding(record, "Trainer", HISTORY_FILE), HISTORY_FILE) or [],
        trials=_json(_holding(record, "Tuner", TRIALS_FILE), TRIALS_FILE) or [],
        evaluation=_read(_evaluation, _json(_holding(record, "Evaluator", SUMMARY_FILE), SUMMARY_FILE)),
        predictions=_read(_predictions, _folder(record, "BulkInferrer", "inference_result")),
        forms=results.find(optimizer.outputs) if optimizer is not None else None,
        examples=examples,
        model=_holding(record, "Trainer", "Format-Serving/saved_model.pb", inner="Format-Serving"),
        gone=[stage.id for stage in record.stages if _is_gone(stage)],
    )


def _is_gone(stage: StageRecord) -> bool:
    """Return whether the files of a stage were removed; what lies in a bucket isn't looked at."""
    local = [folder for folder in stage.outputs if "://" not in folder]
    return bool(local) and not any(map(os.path.exists, local))


def _stage(record: RunRecord, name: str) -> StageRecord | None:
    return next((stage for stage in record.stages if stage.id == name), None)


def _outputs(record: RunRecord, name: str) -> Iterator[Path]:
    stage = _stage(record, name)
    yield from map(Path, stage.outputs if stage is not None else ())


def _holding(record: RunRecord, name: str, file: str, inner: str = "") -> Path | None:
    """Return the output folder of a stage that holds a file."""
    return next((folder / inner for folder in _outputs(record, name) if (folder / file).is_file()), None)


def _folder(record: RunRecord, name: str, key: str) -> Path | None:
    """Return the output folder of a stage under one of its output keys."""
    return next((folder for folder in _outputs(record, name) if folder.parent.name == key and folder.is_dir()), None)


def _read(reader: Callable[[Any], T], place: Any) -> T | None:
    """Return what a reader finds; None where files are damaged, since a report must not fail by it."""
    from google.protobuf.message import DecodeError

    try:
        return reader(place)
    except (OSError, ValueError, KeyError, TypeError, DecodeError):
        return None


def _json(folder: Path | None, file: str) -> Any:
    """Return what a JSON file holds; None where it is missing or damaged."""
    if folder is None:
        return None
    try:
        return json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _evaluation(summary: Any) -> Evaluation | None:
    if summary is None:
        return None
    from pipeline.evaluation.eval_config import BASELINE, CANDIDATE

    entries = {(entry["model"], _slice_name(entry["slice"])): entry for entry in summary["slices"]}
    whole = entries[(CANDIDATE, "")]
    before = entries.get((BASELINE, ""))
    slices = [(name, entry["metrics"]) for (model, name), entry in entries.items() if model == CANDIDATE and name]
    return Evaluation(
        labels=summary["labels"],
        overall=whole["metrics"],
        baseline=before["metrics"] if before else None,
        per_class=whole["per_class"],
        support={label: sum(row) for label, row in zip(summary["labels"], whole["confusion"], strict=True)},
        confusion=whole["confusion"],
        reliability=[tuple(entry) for entry in whole["reliability"]],
        slices=sorted(slices, key=lambda entry: entry[1].get("accuracy") or 0.0),
    )


def _slice_name(values: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _predictions(folder: Path | None) -> Predictions | None:
    """Return the worst mistakes of the predictions in a folder."""
    files = sorted(folder.glob("predictions-*.csv")) if folder is not None else []
    if not files:
        return None
    right: dict[str, bool] = {}
    examples, wrong = 0, []
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                examples += 1
                right[row["digest"]] = row["correct"] != "0"
                if row["correct"] == "0":
                    wrong.append(
                        Mistake(row["origin"], row["digest"], row["label"], row["predicted"], float(row["probability"]))
                    )
    worst = sorted(wrong, key=lambda mistake: (-mistake.probability, mistake.digest))
    return Predictions(examples, len(wrong), worst[:_MOST_MISTAKES], right)
