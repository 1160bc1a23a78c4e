"""The ingestion's report: what was found, what was left out and why.

Made by `transform.ingest` from the check and the assignment; the pipeline stores it beside the examples and
shows it.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transform.check import ChunkCheck
from transform.features import FORMATS, SPLITS
from transform.sources.base import Listing, Source
from transform.sources.refs import printable
from transform.splits import Assignment

_SHOWN = 20
_SHOWN_UNREADABLE = 1000


@dataclass(frozen=True)
class IngestReport:
    """What became of the examples of a source. Everything is plain data, ready for JSON.

    Attributes:
        source: name of the source.
        labels: class names in the order of their ids.
        listed: examples found.
        written: examples written.
        examples: split -> class -> count; splits without examples are missing.
        left_out: reason -> count.
        ignored: files that were never examples, reason -> count.
        duplicates: `copies` (examples that repeat another's content) and `groups`, lists of names.
        conflicts: `contents` under several classes, and `groups`, lists of name and class.
        unreadable: `count`, `share`, and `files` with name and reason, the first thousand.
        images: `formats`, `reencoded`, `height` and `width` (min, median, max), the most frequent `sizes`.
        splits: `given` by the data, `from_ledger` (contents that stayed where they were), `redealt`.
        spans: see `Source.provenance`; empty for sources without spans.
    """

    source: str
    labels: list[str]
    listed: int
    written: int
    examples: dict[str, dict[str, int]]
    left_out: dict[str, int]
    ignored: dict[str, int]
    duplicates: dict[str, Any]
    conflicts: dict[str, Any]
    unreadable: dict[str, Any]
    images: dict[str, Any]
    splits: dict[str, Any]
    spans: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as JSON, one key a line."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> IngestReport:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def make_report(source: Source, check: ChunkCheck, readable: np.ndarray, assignment: Assignment) -> IngestReport:
    """Put a report together.

    Args:
        source: where the examples are from.
        check: the merged check, one row per listed example.
        readable: int64 [R], rows of the readable examples.
        assignment: the splits of the readable examples, in the order of `readable`.
    """
    listing = source.listing()
    written = readable[assignment.split >= 0]
    return IngestReport(
        source=source.name,
        labels=list(listing.labels),
        listed=len(listing),
        written=len(written),
        examples=_examples(assignment, listing.labels),
        left_out=_left_out(assignment, len(check.unreadable)),
        ignored=dict(listing.ignored),
        duplicates=_duplicates(listing, readable, assignment),
        conflicts=_conflicts(listing, readable, assignment),
        unreadable={
            "count": len(check.unreadable),
            "share": len(check.unreadable) / max(len(listing), 1),
            "files": [
                {"name": printable(listing.refs[index]), "reason": reason}
                for index, reason in check.unreadable[:_SHOWN_UNREADABLE]
            ],
        },
        images=_images(check, written),
        splits={
            "given": [split for number, split in enumerate(SPLITS) if (listing.given_split == number).any()],
            "from_ledger": assignment.kept,
            "redealt": assignment.redealt,
        },
        spans=source.provenance(),
    )


def _examples(assignment: Assignment, labels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    return {
        split: {label: int(count) for label, count in zip(labels, counts, strict=True)}
        for split, counts in zip(SPLITS, assignment.counts, strict=True)
        if counts.any()
    }


def _left_out(assignment: Assignment, unreadable: int) -> dict[str, int]:
    reasons = {
        "unreadable": unreadable,
        "beyond data.limit": assignment.left_out_by_limit,
        **{
            f"in {split}, but a copy is in a more protected split": count
            for split, count in assignment.left_out_copies.items()
        },
    }
    return {reason: count for reason, count in reasons.items() if count}


def _duplicates(listing: Listing, readable: np.ndarray, assignment: Assignment) -> dict[str, Any]:
    groups = assignment.groups
    several = np.flatnonzero(groups.sizes > 1)[:_SHOWN]
    names = [[printable(listing.refs[i]) for i in readable[groups.members(g)[:_SHOWN]]] for g in several]
    return {"copies": assignment.copies, "groups": names}


def _conflicts(listing: Listing, readable: np.ndarray, assignment: Assignment) -> dict[str, Any]:
    def member(index: int) -> dict[str, str]:
        return {"name": printable(listing.refs[index]), "label": listing.labels[listing.label_ids[index]]}

    shown = assignment.conflicts[:_SHOWN]
    return {
        "contents": len(assignment.conflicts),
        "groups": [[member(i) for i in readable[assignment.groups.members(g)[:_SHOWN]]] for g in shown],
    }


def _images(check: ChunkCheck, written: np.ndarray) -> dict[str, Any]:
    formats = Counter(check.formats[written].tolist())
    sizes, counts = np.unique(check.sizes[written], axis=0, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:_SHOWN]

    def spread(column: int) -> list[int]:
        values = check.sizes[written, column]
        return [int(values.min()), int(np.median(values)), int(values.max())] if len(values) else []

    return {
        "formats": {FORMATS[number]: count for number, count in sorted(formats.items())},
        "reencoded": int(check.reencoded[written].sum()),
        "height": spread(0),
        "width": spread(1),
        "sizes": {"x".join(map(str, sizes[row])): int(counts[row]) for row in frequent},
        "different_sizes": len(sizes),
    }
