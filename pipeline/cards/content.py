"""A model card as plain data, in the fields of the Model Card Toolkit's schema 0.0.2.

Comes in: what people wrote in the section `card`, and what the stages found out about data, model and quality. Goes
out: nested mappings that the toolkit's JSON schema accepts. Called by the pushers.

References:
    Mitchell et al., 2019, "Model Cards for Model Reporting", arXiv:1810.03993.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.card import CardSettings

SCHEMA_VERSION = "0.0.2"

_NORMAL_QUANTILE = 1.959964  # of the 95 % interval


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
        data_fingerprint: of the data.
        config_hash: of the settings that it follows from.
        git_commit: of the code.
    """

    name: str
    card: CardSettings
    architecture: str
    image: tuple[int, int, int]
    ingestion: Mapping[str, Any]
    summary: Mapping[str, Any]
    split: str
    data_fingerprint: str
    config_hash: str
    git_commit: str


def model_card(subject: Subject) -> dict[str, Any]:
    """Return the card of a model; the same model has the same card.

    Args:
        subject: what is known about it.
    """
    card = subject.card
    labels = subject.ingestion["labels"]
    return {
        "schema_version": SCHEMA_VERSION,
        "model_details": _without_empty(
            {
                "name": subject.name,
                "overview": card.description or f"Classifies images into {len(labels)} classes: {_few(labels)}.",
                "owners": [{"name": card.author}] if card.author else [],
                "version": {"name": f"config {subject.config_hash[:12]}, data {subject.data_fingerprint[:12]}"},
                "licenses": [_license(card.license)],
                "references": [{"reference": f"commit {subject.git_commit}"}],
            }
        ),
        "model_parameters": {
            "model_architecture": subject.architecture,
            "data": _data(subject),
            "input_format": _input(subject.image),
            "output_format": f"Probabilities of {len(labels)} classes, the index and the label of the largest.",
        },
        "quantitative_analysis": {"performance_metrics": _metrics(subject)},
        "considerations": _without_empty(
            {
                "use_cases": [{"description": card.intended_use}],
                "limitations": [{"description": limit} for limit in (*card.limits, *_weak_classes(subject.summary))],
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
            "description": f"{sum(classes.values()):,} images of {source}, {sum(map(bool, classes.values()))} classes",
        }
        for split, classes in report["examples"].items()
    ]


def _metrics(subject: Subject) -> list[dict[str, Any]]:
    """Return the candidate's metrics on the whole split, and its accuracy on each slice and recall of each class."""
    from pipeline.evaluation.eval_config import CANDIDATE

    found = []
    for entry in subject.summary["slices"]:
        if entry["model"] != CANDIDATE:
            continue
        name = ", ".join(f"{key} = {value}" for key, value in entry["slice"].items())
        examples = int(entry["metrics"]["example_count"])
        for metric, value in entry["metrics"].items():
            if value is None or (name and metric != "accuracy"):
                continue
            record = {"type": metric, "value": f"{value:g}", "slice": ", ".join(filter(None, (subject.split, name)))}
            if metric == "accuracy":
                record["confidence_interval"] = _interval(value, examples)
            found.append(record)
    return found


def _interval(share: float, examples: int) -> dict[str, str]:
    """Return the 95 % interval of a share by Wilson's method (1927), which holds near 0 and 1 too."""
    z = _NORMAL_QUANTILE
    center = (share + z**2 / (2 * examples)) / (1 + z**2 / examples)
    half = z * math.sqrt(share * (1 - share) / examples + z**2 / (4 * examples**2)) / (1 + z**2 / examples)
    return {"lower_bound": f"{max(0.0, center - half):.4f}", "upper_bound": f"{min(1.0, center + half):.4f}"}


def _weak_classes(summary: Mapping[str, Any]) -> list[str]:
    """Return a sentence about classes of which the model finds less than four fifths of what it finds on average."""
    from pipeline.evaluation.eval_config import CANDIDATE

    whole = next(entry for entry in summary["slices"] if entry["model"] == CANDIDATE and not entry["slice"])
    recalls = {label: values["recall"] or 0.0 for label, values in whole["per_class"].items()}
    mean = sum(recalls.values()) / max(len(recalls), 1)
    weak = sorted((label for label, recall in recalls.items() if recall < 0.8 * mean), key=recalls.__getitem__)
    if not weak:
        return []
    named = ", ".join(f"{label} ({recalls[label]:.0%})" for label in weak[:10])
    return [f"It finds fewer of these classes than of the others ({mean:.0%} on average): {named}."]


def _few(labels: Sequence[str], most: int = 10) -> str:
    return ", ".join(labels[:most]) + (" and more" if len(labels) > most else "")
