"""What came out of a stage, in a few words: read from the files that its artifacts hold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.components.example_gen import REPORT_FILE
from pipeline.evaluation.verdict import Verdict, read_verdict


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
    if node_id in ("Trainer", "Tuner"):
        return Facts(_summary(uris))
    verdict = next((found for uri in uris if (found := read_verdict(uri)) is not None), None)
    if verdict is None:
        return Facts()
    return Facts(verdict.sentence, verdict, _published(verdict) if node_id == "Pusher" else None)


def _ingested(uri: str) -> str:
    """Return the counts of an ingestion."""
    with open(os.path.join(uri, REPORT_FILE), encoding="utf-8") as file:
        report = json.load(file)
    splits = ", ".join(f"{split} {sum(classes.values()):,}" for split, classes in report["examples"].items())
    parts = [f"{report['written']:,} images in {len(report['labels'])} classes: {splits}"]
    if report["unreadable"]["count"]:
        parts.append(f"{report['unreadable']['count']:,} unreadable")
    if report["duplicates"]["copies"]:
        parts.append(f"{report['duplicates']['copies']:,} exact copies")
    if report["conflicts"]["contents"]:
        parts.append(f"{report['conflicts']['contents']:,} images under two labels")
    return "; ".join(parts)


def _summary(uris: list[str]) -> str:
    """Return the sentence of a `summary.json` that Trainer or Tuner left in one of its artifacts."""
    for uri in uris:
        path = os.path.join(uri, "summary.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return str(json.load(file)["sentence"])
    return ""


def _published(verdict: Verdict) -> tuple[int, str] | None:
    """Return number and folder of what the Pusher published."""
    published = next(iter(verdict.checks), None)
    return (int(published["version"]), str(published["path"])) if verdict.passed and published else None
