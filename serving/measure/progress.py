"""What a measuring process does at this moment, readable from outside even after it crashed.

Comes in: the variant and step at hand. Goes out: a small file that always holds the latest. Written by
`serving.measure.worker` before every step, read by `serving.measure.running` to name the variant that crashed or
hangs.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

_LENGTH = 1024


@dataclass(frozen=True)
class Step:
    """One step of a measurement.

    Attributes:
        variant: Whose turn it is; empty between variants.
        doing: What is done with it, in words that fit after "while".
        done: Steps finished.
        total: Steps in all.
    """

    variant: str
    doing: str
    done: int
    total: int


class StepFile:
    """Writes the current step over the last one, without flushing: the file outlives the process, not the machine."""

    def __init__(self, path: Path) -> None:
        """Open the file and empty it."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)

    def write(self, step: Step) -> None:
        """Note a step; costs microseconds."""
        text = json.dumps([step.variant[:200], step.doing[:200], step.done, step.total])
        # One write of fixed length, so that a reader never sees the end of an older, longer step.
        os.pwrite(self._descriptor, text.encode().ljust(_LENGTH), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_step(path: Path) -> Step | None:
    """The step a process was or is at; None if it has not begun."""
    try:
        variant, doing, done, total = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Step(str(variant), str(doing), int(done), int(total))
