"""A sign of life from commands that take more than a moment: what they are at, how far, and for how long.

`slipway run` has a screen of its own (`screen`); all others wrap their work into `working`. Standard output stays
what the command has to say: the sign goes to standard error.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from transform.progress import LOGGER

_PLAIN_INTERVAL = 15.0
"""Seconds between lines where there is no terminal."""

_SILENCE = 15.0
"""Seconds after which work that reports nothing says that it goes on."""


@contextlib.contextmanager
def working(what: str, stream: TextIO | None = None, quiet: bool = False) -> Iterator[None]:
    """Show that work goes on.

    On a terminal a line with the time that has passed, and the figures of the stages' progress reports, which
    disappears at the end. Elsewhere a line now and then: of the reports, or one that it goes on if there are none.

    Args:
        what: what is being done, such as "loading the model".
        stream: where to show it; standard error where it is None.
        quiet: show nothing.
    """
    if quiet:
        yield
        return
    sign = _Sign(what, stream or sys.stderr)
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(sign)
    try:
        with sign.shown():
            yield
    finally:
        logger.removeHandler(sign)
        logger.setLevel(level)


def described(progress: dict[str, Any]) -> str:
    """Return a progress report in words, such as `1,024/4,000 images  loss 0.31`."""
    total = f"/{progress['total']:,}" if progress["total"] is not None else ""
    values = "  ".join(f"{name} {_figure(value)}" for name, value in progress["values"].items())
    return f"{progress['done']:,}{total} {progress['unit']}  {values}".rstrip()


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Sign(logging.Handler):
    """The line that says what goes on."""

    def __init__(self, what: str, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._what = what
        self._stream = stream
        self._bar: Any = None
        self._task: Any = None
        self._last_line = time.monotonic()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        if not self._stream.isatty():
            silence = threading.Timer(_SILENCE, self._print, [f"{self._what}: still at work"])
            silence.daemon = True
            silence.start()
            try:
                yield
            finally:
                silence.cancel()
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(),
            console=Console(file=self._stream, highlight=False), transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        with self._bar:
            self._task = self._bar.add_task(self._what, total=None)
            yield

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{self._what}: {described(record.progress)}"  # type: ignore[attr-defined]
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        elif time.monotonic() - self._last_line > _PLAIN_INTERVAL:
            self._print(text)

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        print(text, file=self._stream, flush=True)
