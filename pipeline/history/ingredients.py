"""What went into results: config values, code, data, libraries, as the stages' keys in the metadata store hold them.

Comes in: executions by stage. Goes out: `Ingredients`, and what differs between two of them. The keys are what TFX's
cache went by, so they say what a result was really made with, also where it was made by an earlier run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.metadata import StoredExecution

_SECTIONS: dict[str, str | dict[str, str]] = {
    "ExampleGen": "data",
    "StatisticsGen": {"sample": "data.statistics_sample"},
}
"""Stages whose key names values of the config by other names than the config does: the section, or name by name."""


@dataclass(frozen=True)
class Ingredients:
    """What results were made with."""

    config: dict[str, Any] = field(default_factory=dict)
    """Values by dotted name, as far as the stages read them."""
    code: dict[str, str] = field(default_factory=dict)
    """Beginning of the SHA-256 of each source file, by module."""
    users: dict[str, list[str]] = field(default_factory=dict)
    """Stages that depend on a module."""
    data: str = ""
    """Fingerprint of the data's content."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Versions."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same on both sides; None where a side hasn't got it."""

    name: str
    a: Any
    b: Any
    stages: tuple[str, ...] = ()
    """Stages that depend on it, for code."""


def ingredients(executions: Mapping[str, StoredExecution]) -> Ingredients:
    """Return what some stages' results were made with.

    Args:
        executions: by stage.
    """
    config: dict[str, Any] = {}
    code: dict[str, str] = {}
    users: dict[str, list[str]] = {}
    libraries: dict[str, str] = {}
    data = ""
    for stage, execution in executions.items():
        key = execution.key
        if key is None:
            continue
        config |= _named(stage, key["config"])
        code |= key["code"]
        for module in key["code"]:
            users.setdefault(module, []).append(stage)
        data = key["data"] or data
        libraries |= key["libraries"]
    return Ingredients(config, code, users, data, libraries)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return the names whose values differ, sorted."""
    return [Difference(name, a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if _differ(name, a, b)]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted path; an empty mapping is a leaf."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `flat` was made of."""
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *sections, last = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def made(executions: Iterable[StoredExecution], nodes: Mapping[int, str]) -> dict[str, StoredExecution]:
    """Return the executions that have results, by stage; the last one where a stage was tried again.

    Args:
        executions: of a run, or behind a version.
        nodes: stage by id of the execution.
    """
    return {nodes[e.id]: e for e in sorted(executions, key=lambda e: e.id) if e.successful and nodes[e.id]}


def _named(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    names = _SECTIONS.get(stage, "")
    if isinstance(names, str):
        return flat(values, f"{names}." if names else "")
    return {names.get(name, name): value for name, value in values.items()}


def _differ(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return (name in a) != (name in b) or a.get(name) != b.get(name)
