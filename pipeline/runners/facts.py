"""What came out of a stage, in a few words: read from the files that its artifacts hold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.components.example_gen import REPORT_FILE
from pipeline.evaluation.verdict import Verdict, read_verdict

START_FILE = "start.json"
"""What a model's run folder says about its start; `trainer.warm_start` writes it, and importing that costs seconds."""

DISTRIBUTION_FILE = "distribution.json"
"""What it says about devices and processes; `trainer.run` writes it."""

PUSHERS = frozenset({"Pusher", "EdgePusher", "FormPusher"})
"""Stages that publish a version."""


@dataclass(frozen=True)
class Facts:
    """What a person wants to know about a finished stage."""

    sentence: str = ""
    verdict: Verdict | None = None
    version: tuple[int, str] | None = None
    """Number and folder of the published version."""


def stage_facts(node_id: str, outputs: Mapping[str, list[str]]) -> Facts:
    """Return the facts about a stage.

    Args:
        node_id: id of the node.
        outputs: URIs of its output artifacts by key.
    """
    uris = [uri for values in outputs.values() for uri in values]
    if node_id == "ExampleGen":
        return Facts(_ingested(uris[0]))
    if node_id == "Resolver":
        models = outputs.get("model")
        return Facts(
            f"the baseline is the model in {models[0]}" if models else "no baseline: nothing else was blessed yet"
        )
    if node_id == "BaseModel":
        models = outputs.get("model")
        return Facts(f"the last blessed model is in {models[0]}" if models else "no model was blessed before")
    if node_id == "Trainer":
        return Facts(_trained(outputs["model_run"][0]))
    if node_id == "Tuner":
        return Facts(_tuned(outputs["best_hyperparameters"][0]))
    verdict = next((found for uri in uris if (found := read_verdict(uri)) is not None), None)
    if verdict is None:
        return Facts()
    return Facts(verdict.sentence, verdict, _published(verdict) if node_id in PUSHERS else None)


def _ingested(uri: str) -> str:
    """Return the counts of an ingestion."""
    with open(os.path.join(uri, REPORT_FILE), encoding="utf-8") as file:
        report = json.load(file)
    splits = ", ".join(f"{split} {sum(classes.values()):,}" for split, classes in report["examples"].items())
    parts = [f"{_spans(report.get('spans'))}{report['written']:,} images in {len(report['labels'])} classes: {splits}"]
    if report["unreadable"]["count"]:
        parts.append(f"{report['unreadable']['count']:,} unreadable")
    if report["duplicates"]["copies"]:
        parts.append(f"{report['duplicates']['copies']:,} exact copies")
    if report["conflicts"]["contents"]:
        parts.append(f"{report['conflicts']['contents']:,} images under two labels")
    return "; ".join(parts)


def _spans(spans: dict[str, Any] | None) -> str:
    """Return from which spans the images are, as the beginning of a sentence."""
    if not spans:
        return ""
    first, last, count = spans["from"], spans["to"], len(spans["used"])
    if count == 1:
        return f"span {last}: "
    return f"spans {first} to {last}: " if count == last - first + 1 else f"{count} spans from {first} to {last}: "


def _trained(uri: str) -> str:
    """Return what the last epoch reached, from the history that the trainer leaves in the model's run folder."""
    path = os.path.join(uri, "history.json")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        history = json.load(file)
    last = history[-1]
    sentence = f"{len(history)} epochs: accuracy {last['accuracy']:.4f}, on eval {last['eval_accuracy']:.4f}"
    return "; ".join(part for part in (sentence + _devices(uri), _start(uri)) if part)


def _devices(uri: str) -> str:
    """Return on how many devices and processes it was trained, if on more than one."""
    path = os.path.join(uri, DISTRIBUTION_FILE)
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if found["replicas"] == 1:
        return ""
    processes = f" of {found['processes']} processes" if found["processes"] > 1 else ""
    return f", on {found['replicas']} devices{processes}"


def _start(uri: str) -> str:
    """Return what a warm start was asked to start with, and whether it did."""
    path = os.path.join(uri, START_FILE)
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return str(json.load(file)["sentence"])


def _tuned(uri: str) -> str:
    """Return the hyperparameters that the search found."""
    path = os.path.join(uri, "best_hyperparameters.txt")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        values = json.load(file)["values"]
    found = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    return "best: " + ", ".join(found)


def _published(verdict: Verdict) -> tuple[int, str] | None:
    """Return number and folder of what the Pusher published."""
    published = next(iter(verdict.checks), None)
    return (int(published["version"]), str(published["path"])) if verdict.passed and published else None
