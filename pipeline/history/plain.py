"""The results of this package as JSON for programs: plain lists, mappings, texts and numbers.

Called by the command line where `--json` is asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.history.ingredients import nested

if TYPE_CHECKING:
    from pipeline.history.collecting import Plan
    from pipeline.history.comparing import Comparison
    from pipeline.history.lineage import Lineage


def plain(value: Any) -> Any:
    """Return a value as JSON takes it; a number that JSON hasn't got becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def plain_lineage(lineage: Lineage) -> dict[str, Any]:
    """Return a lineage: what it is, what it was made with, and the steps with the ids of their artifacts."""
    publication = lineage.publication
    manifest = publication.manifest if publication else None
    return {
        "title": lineage.title,
        "artifact": lineage.artifact,
        "version": None
        if publication is None
        else {
            "number": publication.number,
            "path": publication.path,
            "created": manifest.created if manifest else None,
            "metrics": manifest.metrics if manifest else {},
            "config_hash": manifest.config_hash if manifest else None,
            "data_fingerprint": manifest.data_fingerprint if manifest else None,
            "git_commit": manifest.git_commit if manifest else None,
            "restores": manifest.restores if manifest else None,
        },
        "data": lineage.data,
        "commit": lineage.commit,
        "config": nested(lineage.config),
        "code": lineage.ingredients.code,
        "libraries": lineage.ingredients.libraries,
        "steps": lineage.steps,
        "artifacts": list(lineage.artifacts.values()),
        "remarks": lineage.remarks,
    }


def plain_comparison(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison, without what both sides have in common."""
    return {
        **{f.name: getattr(comparison, f.name) for f in dataclasses.fields(comparison)},
        "metrics": [
            {"name": metric.name, "a": metric.a, "b": metric.b, "change": metric.change}
            for metric in comparison.metrics
        ],
        "stages": [
            {
                "name": pair.name,
                "same_outputs": pair.same_outputs,
                **{
                    name: None if side is None else {"state": side.state, "seconds": side.seconds}
                    for name, side in (("a", pair.a), ("b", pair.b))
                },
            }
            for pair in comparison.stages
        ],
    }


def plain_plan(plan: Plan) -> dict[str, Any]:
    """Return what a garbage collection removes, leaves alone and keeps."""
    return {
        "bytes": plan.size,
        "kept_bytes": plan.kept_size,
        "artifacts": [
            {
                "id": item.artifact.id,
                "type": item.artifact.type,
                "stage": item.stage,
                "uri": item.artifact.uri,
                "bytes": item.size,
                "created": item.artifact.created,
            }
            for item in plan.items
        ],
        "leftovers": plan.leftovers,
        "skipped": [{"id": artifact.id, "uri": artifact.uri, "reason": reason} for artifact, reason in plan.skipped],
        "kept": [{"id": artifact, "reason": reason} for artifact, reason in sorted(plan.kept.items())],
    }
