"""Keeps what TensorFlow, Beam and TFX print away from the screen, and in a log file.

They write through Python's logging, through `warnings`, and from C++ straight to file descriptor 2, so the
descriptors themselves are redirected. What the command has to say goes to copies of the original ones.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from transform.progress import LOGGER


@dataclass(frozen=True)
class Screen:
    """The original output streams of the process."""

    out: TextIO
    err: TextIO


@contextlib.contextmanager
def noise_to(log: Path) -> Iterator[Screen]:
    """Send everything that is printed to a log file.

    Args:
        log: the file, which is appended to.

    Yields:
        The streams that still reach the user.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    screen = Screen(
        os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8"),
        os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8"),
    )
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: record.name != LOGGER)
    root = logging.getLogger()
    previous = root.handlers[:], root.level
    with open(log, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        root.handlers = [handler]
        root.setLevel(logging.WARNING)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            root.handlers = previous[0]
            root.setLevel(previous[1])
            handler.close()
            for descriptor in saved:
                os.close(descriptor)
            screen.out.close()
            screen.err.close()
