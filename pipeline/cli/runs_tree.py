"""The tree of `slipway runs lineage`: from a version back to its examples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from pipeline.history.ingredients import nested
from pipeline.history.lineage import OTHER_MODELS

if TYPE_CHECKING:
    from pipeline.history.lineage import Data, Lineage, Step

_SECTIONS = ("data", "transform", "model", "train", "tune", "evaluate", "compress")
"""Sections of the config that have a say in what a version is."""

_ORDER = ("variants", "results", "model", "hyperparameters", "transform_graph", "schema", "statistics", "examples")
"""Inputs in the order in which they are followed: what made the model first, what judged it last."""

_DIGITS = 12
"""Of a hash; `--json` has all of them."""


def print_lineage(screen: Console, lineage: Lineage) -> None:
    """Print where something comes from: the answer in a few lines, then the tree."""
    screen.print(Text(lineage.title, style="bold"))
    for name, value in _facts(lineage):
        screen.print(Text(f"  {name:<9} {value}"), soft_wrap=True)
    for section, values in nested(lineage.config).items():
        if section in _SECTIONS and isinstance(values, dict):
            screen.print(Text(f"  {section:<9} {_in_short(values)}"), soft_wrap=True)
    for remark in lineage.remarks:
        screen.print(Text(f"  {remark}", style="yellow"), soft_wrap=True)
    if lineage.artifact is not None:
        tree = Tree(_label(lineage, lineage.artifact.id, ""))
        _grow(tree, lineage, lineage.artifact.id, set())
        screen.print(tree, soft_wrap=True)


def _facts(lineage: Lineage) -> list[tuple[str, str]]:
    manifest = lineage.publication.manifest if lineage.publication else None
    facts = []
    if manifest is not None:
        metrics = ", ".join(f"{name} {value:g}" for name, value in manifest.metrics.items() if value is not None)
        facts += [("published", manifest.created), ("metrics", metrics)]
    if lineage.data is not None:
        facts.append(("examples", _data(lineage.data)))
    elif manifest is not None and manifest.data_fingerprint:
        facts.append(("examples", f"content {manifest.data_fingerprint}"))
    trained = next((step for step in lineage.steps if step.stage == "Trainer"), None)
    if trained is not None:
        facts.append(("trained", f"in run {trained.run} at {trained.started}"))
    facts.append(("commit", lineage.commit or "unknown"))
    if manifest is not None and manifest.git_commit not in (None, lineage.commit):
        facts.append(("", f"published by {manifest.git_commit}"))
    if manifest is not None and manifest.config_hash:
        facts.append(("config", f"hash {manifest.config_hash[:_DIGITS]}"))
    if lineage.ingredients.code:
        libraries = ", ".join(f"{name} {version}" for name, version in lineage.ingredients.libraries.items())
        facts.append(("code", f"{len(lineage.ingredients.code)} modules; {libraries}"))
    return facts


def _data(data: Data) -> str:
    parts = [", ".join(f"{split} {count:,}" for split, count in data.splits.items())]
    parts += [f"spans {data.spans}" if data.spans else "", f"from {data.source}" if data.source else ""]
    parts += [f"content {data.fingerprint}" if data.fingerprint else "", f"in {data.uri}" if data.uri else ""]
    return "; ".join(part for part in parts if part)


def _in_short(values: dict[str, object]) -> str:
    return " ".join(f"{name}={json.dumps(value)}" for name, value in values.items())


def _grow(tree: Tree, lineage: Lineage, artifact: int, seen: set[int]) -> None:
    step = lineage.step_of(artifact)
    if step is None:
        return
    if step.execution in seen:
        return
    seen.add(step.execution)
    for key in sorted(step.inputs, key=_rank):
        for made_from in step.inputs[key]:
            other = key in OTHER_MODELS
            branch = tree.add(_label(lineage, made_from, key, seen, follow=other))
            if not other:
                _grow(branch, lineage, made_from, seen)


def _rank(key: str) -> tuple[int, str]:
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)


def _label(lineage: Lineage, artifact: int, key: str, seen: set[int] | None = None, follow: bool = False) -> Text:
    """Return the line of an artifact: the input that it was, type and folder, and the step that made it."""
    found = lineage.artifacts.get(artifact)
    step = lineage.step_of(artifact)
    text = Text.assemble(f"{key}: " if key else "", (found.type if found else "artifact", "bold"), f" {artifact}")
    if found is not None and found.state != "LIVE":
        text.append(f" {found.state.lower().replace('_', ' ')}", style="yellow")
    if step is not None:
        text.append(f"  {_step(step)}", style="cyan")
    if step is not None and seen and step.execution in seen:
        text.append("  (see above)", style="dim")
    elif found is not None:
        text.append(f"  {found.uri}", style="dim")
    if follow and found is not None:
        text.append("  (`slipway runs lineage FOLDER` goes on from there)", style="dim")
    return text


def _step(step: Step) -> str:
    return f"{step.stage} in run {step.run}"
