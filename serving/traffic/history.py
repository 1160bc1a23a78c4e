"""The history of decisions, append-only: one JSON object a line in `STATE_DIR/decisions.jsonl`.

Comes in: the state, whose last decisions were written together with what they changed. Goes out: the file, which
holds every decision once, whatever was killed in between. Called by whoever writes the state, and by the status.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from serving.durable import sync_directory
from serving.traffic.state import Decision, TrafficState

HISTORY_FILE = "decisions.jsonl"


def catch_up(state_dir: str | os.PathLike[str], state: TrafficState) -> None:
    """Append the decisions of the state that the file does not hold yet; the caller holds the lock."""
    path = Path(state_dir) / HISTORY_FILE
    written = _last_sequence(path)
    missing = [decision for decision in state.history if decision.sequence > written]
    if not missing:
        return
    existed = path.exists()
    with path.open("a+b") as stream:
        # A killed writer may have left half a line; it is ended, and readers pass over it.
        if stream.tell() and not _ends_line(path):
            stream.write(b"\n")
        for decision in missing:
            stream.write(json.dumps(decision.model_dump(mode="json"), ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if not existed:
        sync_directory(path.parent)


def read(state_dir: str | os.PathLike[str]) -> list[Decision]:
    """All decisions ever taken, oldest first; half-written lines are passed over."""
    try:
        lines = (Path(state_dir) / HISTORY_FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [decision for line in lines if (decision := _parsed(line)) is not None]


def _parsed(line: bytes) -> Decision | None:
    try:
        return Decision.model_validate_json(line)
    except ValidationError:
        return None


def _last_sequence(path: Path) -> int:
    return max((decision.sequence for decision in read(path.parent)), default=0)


def _ends_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
