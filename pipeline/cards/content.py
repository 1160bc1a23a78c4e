"""A model card as plain data, in the fields of the Model Card Toolkit's schema 0.0.2.

Comes in: what people wrote in the section `card`, and what the stages found out about data, model and quality. Goes
out: nested mappings that the toolkit's JSON schema accepts. Called by the pushers.

References:
    Mitchell et al., 2019, "Model Cards for Model Reporting", arXiv:1810.03993.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config.card import CardSettings
from pipeline.evaluation.eval_config import CANDIDATE
from serving.measure.quality import wilson_interval

if TYPE_CHECKING:
    from pipeline.optimizing.results import Certificate
    from serving.certify.table import Row

SCHEMA_VERSION = "0.0.2"

_REFERENCE = "saved_model"
_DIGITS = 12
"""Of a hash."""

_UNEVEN = 5
"""So many times more examples than the smallest class has are worth a word."""

_SHARES = frozenset({"accuracy", "top_k_accuracy"})
_USES = {"train": "learned from", "eval": "choices were made on it", "test": "seen only for the final figures"}


@dataclass(frozen=True)
class Subject:
    """What the stages know about a model.

    Attributes:
        name: of the pipeline.
        card: what its makers wrote.
        architecture: the network in words, such as `resnet8, width 1`.
        image: height, width and channels of its input.
        ingestion: `ingest_report.json` of its examples.
        summary: `summary.json` of its evaluation.
        split: that it was evaluated on.
        top_k: how many guesses `top_k_accuracy` counts.
        data_fingerprint: of the data.
        config_hash: of the settings that it follows from.
        git_commit: of the code.
        forms: what the model costs and reaches in other forms; None if none were made.
    """

    name: str
    card: CardSettings
    architecture: str
    image: tuple[int, int, int]
    ingestion: Mapping[str, Any]
    summary: Mapping[str, Any]
    split: str
    top_k: int
    data_fingerprint: str
    config_hash: str
    git_commit: str
    forms: Certificate | None = None


def model_card(subject: Subject) -> dict[str, Any]:
    """Return the card of a model; the same model has the same card.

    Args:
        subject: what is known about it.
    """
    card = subject.card
    labels = subject.ingestion["labels"]
    version = {
        "config": subject.config_hash[:_DIGITS],
        "data": subject.data_fingerprint[:_DIGITS],
        "commit": subject.git_commit,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "model_details": _without_empty(
            {
                "name": subject.name,
                "overview": card.description or f"Classifies images into {len(labels)} classes: {_few(labels)}.",
                "documentation": f"A network ({subject.architecture}) that was trained, judged and published by a TFX "
                f"pipeline. It tells {len(labels)} classes apart: {', '.join(labels)}.",
                "owners": [{"name": card.author}] if card.author else [],
                "version": {"name": ", ".join(f"{name} {value}" for name, value in version.items())},
                "licenses": [_license(card.license)],
                "references": [{"reference": address} for address in card.references],
            }
        ),
        "model_parameters": {
            "model_architecture": subject.architecture,
            "data": _data(subject),
            "input_format": _input(subject.image),
            "output_format": f"Probabilities of {len(labels)} classes, the index and the label of the largest.",
        },
        "quantitative_analysis": {"performance_metrics": [*_metrics(subject), *_of_forms(subject)]},
        "considerations": _without_empty(
            {
                "users": [{"description": user} for user in card.users],
                "use_cases": [{"description": card.intended_use}],
                "limitations": [{"description": limit} for limit in (*card.limits, *found_limits(subject))],
                "tradeoffs": [{"description": each} for each in (*card.tradeoffs, *_tradeoffs(subject.forms))],
                "ethical_considerations": [
                    {"name": risk, "mitigation_strategy": measure} for risk, measure in card.risks.items()
                ],
            }
        ),
    }


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", [], {})}


def _license(name: str) -> dict[str, str]:
    """Return a license by its SPDX identifier where it looks like one, else as text."""
    known = name.replace("-", "").replace(".", "").replace("+", "").isalnum() and name != "not stated"
    return {"identifier" if known else "custom_text": name}


def _input(image: tuple[int, int, int]) -> str:
    height, width, channels = image
    color = "gray" if channels == 1 else "RGB"
    return f"An image as PNG, JPEG, GIF or BMP; it is turned into {color} and resized to {height} x {width} pixels."


def _data(subject: Subject) -> list[dict[str, str]]:
    report = subject.ingestion
    source = subject.card.data or report["source"]
    return [
        {
            "name": split,
            "description": f"{sum(classes.values()):,} images of {source}, {sum(map(bool, classes.values()))} classes; "
            f"{_USES[split]}",
        }
        for split, classes in report["examples"].items()
    ]


def _metrics(subject: Subject) -> list[dict[str, Any]]:
    """Return the model's metrics on the whole split, its accuracy on each slice, precision and recall of each class."""
    found = []
    for entry in subject.summary["slices"]:
        if entry["model"] != CANDIDATE:
            continue
        name = ", ".join(f"{key} = {value}" for key, value in entry["slice"].items())
        for metric, value in entry["metrics"].items():
            if value is None or (name and metric != "accuracy"):
                continue
            kind = metric.replace("top_k", f"top_{subject.top_k}")
            examples = entry["metrics"]["example_count"] if metric in _SHARES else None
            found.append(_metric(kind, value, ", ".join(filter(None, (subject.split, name))), examples))
        if not name:
            found += _of_classes(entry, subject)
    return found


def _of_classes(entry: Mapping[str, Any], subject: Subject) -> Iterator[dict[str, Any]]:
    support = {label: sum(row) for label, row in zip(subject.summary["labels"], entry["confusion"], strict=True)}
    for label, values in entry["per_class"].items():
        for metric, examples in (("precision", None), ("recall", support[label])):
            if values[metric] is not None and support[label]:
                yield _metric(metric, values[metric], f"{subject.split}, class {label}", examples)


def _of_forms(subject: Subject) -> Iterator[dict[str, Any]]:
    """Return the accuracy of the forms that ship."""
    if subject.forms is None:
        return
    split = subject.forms.about.get("splits", {}).get("report", subject.split)
    for row in _shipping(subject.forms):
        yield _metric("accuracy", row.accuracy or 0.0, f"{split}, form {row.variant}", None)


def _metric(kind: str, value: float, part: str, examples: float | None) -> dict[str, Any]:
    """Return a metric; a share that was counted on examples with its 95 % interval."""
    record: dict[str, Any] = {"type": kind, "value": f"{value:.6g}", "slice": part}
    if examples:
        low, high = wilson_interval(round(value * examples), int(examples))
        record["confidence_interval"] = {"lower_bound": f"{low:.4f}", "upper_bound": f"{high:.4f}"}
    return record


def _shipping(forms: Certificate) -> list[Row]:
    picked = {pick.variant for pick in forms.picks.values()}
    return [row for row in forms.rows if row.variant in picked and row.delta is not None and row.form != _REFERENCE]


def _tradeoffs(forms: Certificate | None) -> Iterator[str]:
    """Return what each form that ships gives up against the SavedModel, and what it gains."""
    for row in _shipping(forms) if forms is not None else ():
        parts = [f"{row.variant}: accuracy {100 * (row.delta or 0.0):+.2f} points against the SavedModel"]
        if row.ci95_low is not None and row.ci95_high is not None:
            parts[0] += f" (95 % interval {100 * row.ci95_low:+.2f} to {100 * row.ci95_high:+.2f})"
        if row.gz_bytes is not None:
            parts.append(f"{row.gz_bytes / 1000:,.1f} kB after gzip")
        if row.ratio is not None:
            parts.append(f"{row.ratio:.1f} times as fast for one image on the machine that measured it")
        yield "; ".join(parts) + "."


def found_limits(subject: Subject) -> list[str]:
    """Return limits that follow from what the stages found.

    Args:
        subject: what is known about the model.
    """
    whole = next(entry for entry in subject.summary["slices"] if entry["model"] == CANDIDATE and not entry["slice"])
    report = subject.ingestion
    limits = [
        f"It answers with one of its {len(report['labels'])} classes whatever the image shows.",
        f"Its figures were measured on {whole['metrics']['example_count']:,.0f} images of the split {subject.split}; "
        "images of another origin may be answered less well.",
        *_weak_classes(whole["per_class"]),
    ]
    totals = {label: sum(counts.get(label, 0) for counts in report["examples"].values()) for label in report["labels"]}
    few, many = (choose(totals, key=totals.__getitem__) for choose in (min, max))
    if totals[many] >= _UNEVEN * max(totals[few], 1):
        limits.append(
            f"The classes have very different numbers of examples, from {totals[few]:,} ({few}) to {totals[many]:,} "
            f"({many})."
        )
    if report["conflicts"]["contents"]:
        limits.append(f"{report['conflicts']['contents']:,} images of its data lie under two labels.")
    return limits


def _weak_classes(per_class: Mapping[str, Any]) -> list[str]:
    """Return a sentence about classes of which the model finds less than four fifths of what it finds on average."""
    recalls = {label: values["recall"] or 0.0 for label, values in per_class.items()}
    mean = sum(recalls.values()) / max(len(recalls), 1)
    weak = sorted((label for label, recall in recalls.items() if recall < 0.8 * mean), key=recalls.__getitem__)
    if not weak:
        return []
    named = ", ".join(f"{label} ({recalls[label]:.0%})" for label in weak[:10])
    return [f"It finds fewer of these classes than of the others ({mean:.0%} on average): {named}."]


def _few(labels: Sequence[str], most: int = 10) -> str:
    return ", ".join(labels[:most]) + (" and more" if len(labels) > most else "")
