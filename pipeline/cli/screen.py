"""What a person sees of a run: the stage at work, how far it is, cache hits and misses, verdicts, times.

Listens to the runner (`Observer`) and to the progress reports of the stages. On a terminal the running stage has a
live line; elsewhere each stage is one line, and long ones report now and then.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pipeline.cli.working import described
from pipeline.optimizing import results
from pipeline.records import HIT, LEFT_OUT, RAN, RESOLVED, STAGE_FAILED, SUCCEEDED, RunRecord, StageRecord
from pipeline.runners.observer import Observer
from transform.progress import LOGGER

_PLAIN_INTERVAL = 15.0
"""Seconds between progress lines where there is no terminal."""

_STYLE = {HIT: "green", RAN: "cyan", RESOLVED: "", STAGE_FAILED: "bold red", LEFT_OUT: "dim"}


class RunScreen(Observer, logging.Handler):
    """Shows a run on a console."""

    def __init__(self, stream: TextIO):
        """Initialize.

        Args:
            stream: where to write; colors and live lines only if it is a terminal.
        """
        logging.Handler.__init__(self, logging.INFO)
        self._console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self._live = self._console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._task: Any = None
        self._stage: StageRecord | None = None
        self._last_line = 0.0

    @contextlib.contextmanager
    def prepared(self, name: str) -> Iterator[RunScreen]:
        """Say that a run begins: looking at the data and loading TFX take a while, before there is more to tell.

        Args:
            name: of the pipeline.

        Yields:
            This screen, for `run_started` and what follows.
        """
        text = f"Slipway {name}: looking at the data, loading TFX"
        if self._live:
            self._bar.start()
            self._task = self._bar.add_task(text)
        else:
            self._console.print(text)
        try:
            yield self
        finally:
            if self._live:
                self._bar.stop()

    def run_started(self, record: RunRecord) -> None:
        """Show the heading."""
        self._end_line()
        logger = logging.getLogger(LOGGER)
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        self._console.print(Text.assemble(("Slipway ", "bold"), (record.name, "bold cyan"), f"  run {record.run_id}"))
        self._console.print(Text(f"log of TensorFlow, Beam and TFX: {record.log}", style="dim"))
        for sentence in record.warnings:
            self._console.print(Text.assemble(("known now: ", "bold yellow"), sentence))
        self._bar.start()

    def stage_started(self, stage: StageRecord) -> None:
        """Show the live line."""
        self._stage = stage
        self._last_line = time.monotonic()
        if self._live:
            self._task = self._bar.add_task(f"{stage.id:<17} looking into the cache")

    def stage_runs(self, stage: StageRecord) -> None:
        """Say why the stage is executed."""
        self._show(f"{stage.id:<17} MISS: {stage.reason}")

    def emit(self, record: logging.LogRecord) -> None:
        """Show a progress report of the running stage."""
        if self._stage is None:
            return
        text = f"{self._stage.id:<17} {described(record.progress)}"  # type: ignore[attr-defined]
        if self._live:
            self._bar.update(self._task, description=text)
        elif time.monotonic() - self._last_line > _PLAIN_INTERVAL:
            self._show(text)

    def stage_finished(self, stage: StageRecord) -> None:
        """Leave one line about the stage on the screen."""
        self._end_line()
        self._stage = None
        text = Text.assemble((f"{stage.id:<17} ", "bold"), (f"{stage.state:<8}", _STYLE.get(stage.state, "")))
        text.append(f"{stage.seconds:7.1f} s  ")
        text.append(stage.detail if stage.detail else "")
        if stage.state == RAN and stage.reason:
            text.append(f"{'  ' if stage.detail else ''}({stage.reason})", style="dim")
        self._console.print(text)

    def run_finished(self, record: RunRecord) -> None:
        """Show times, verdicts and what was published."""
        self.stop()
        if record.stages:
            self._console.print(times_table(record))
        if record.verdicts:
            self._console.print(verdicts_table(record))
        for table in variants_tables(record, self._console.width):
            self._console.print(table)
        style = "bold green" if record.state == SUCCEEDED else "bold red"
        self._console.print(Text(closing_sentence(record), style=style))

    def stop(self) -> None:
        """End the live line, and listen to the stages no longer."""
        self._bar.stop()
        logging.getLogger(LOGGER).removeHandler(self)

    def _end_line(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _show(self, text: str) -> None:
        self._last_line = time.monotonic()
        if self._live:
            self._bar.update(self._task, description=text)
        else:
            self._console.print(text)


def closing_sentence(record: RunRecord) -> str:
    """Return how a run ended, in one sentence."""
    if record.version is not None and record.state == SUCCEEDED:
        bundle = f", the mobile bundle in {record.bundle}" if record.bundle else ""
        forms = f", the forms for other servers in {record.forms}" if record.forms else ""
        return f"{record.state}: version {record.version} is in {record.served}{bundle}{forms} ({record.seconds:.1f} s)"
    reason = f": {record.error}" if record.error else ""
    return f"{record.state}{reason} ({record.seconds:.1f} s)"


def times_table(record: RunRecord) -> Table:
    """Return the table of stages with their times."""
    table = Table(title="Stages", title_justify="left", header_style="bold", expand=False)
    for name, justify in (
        ("stage", "left"),
        ("cache", "left"),
        ("wall s", "right"),
        ("CPU s", "right"),
        ("peak MB", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for stage in record.stages:
        state = Text(stage.state, style=_STYLE.get(stage.state, ""))
        figures = (
            (f"{stage.seconds:.1f}", f"{stage.cpu_seconds:.1f}", f"{stage.peak_mb:.0f}")
            if stage.seconds
            else ("", "", "")
        )
        table.add_row(stage.id, state, *figures)
    total = sum(stage.seconds for stage in record.stages)
    cpu = sum(stage.cpu_seconds for stage in record.stages)
    table.add_section()
    table.add_row("all stages", "", f"{total:.1f}", f"{cpu:.1f}", "")
    return table


def verdicts_table(record: RunRecord) -> Table:
    """Return the table of what the gates said."""
    table = Table(title="Verdicts", title_justify="left", header_style="bold", expand=False)
    table.add_column("gate")
    table.add_column("verdict")
    table.add_column("finding", overflow="fold")
    for verdict in record.verdicts:
        word = Text("passed", style="green") if verdict["passed"] else Text("refused", style="bold red")
        table.add_row(verdict["gate"], word, Text(verdict["sentence"]))
    return table


def variants_tables(record: RunRecord, width: int) -> list[Any]:
    """Return what to print about the forms of the model: what they cost and reach, and which ships where.

    Args:
        record: a run; without forms there is nothing to print.
        width: of the console, in characters.
    """
    stage = next((stage for stage in record.stages if stage.id == "Optimizer"), None)
    folder = results.find(stage.outputs) if stage is not None else None
    if folder is None:
        return []
    from serving.certify.terminal import picks_table, results_table

    certificate = results.read(folder)
    title = f"Forms ({folder / results.CSV_FILE}, picture: {results.PICTURE}.png)"
    return [
        results_table(certificate.rows, certificate.picks, certificate.front, title, width),
        picks_table(certificate.picks),
    ]
