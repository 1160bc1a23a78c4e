"""`slipway watch` and `slipway drift`: when a model is trained again, and whether it should be."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigOption, JsonOption, SetOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError, GateRefused

if TYPE_CHECKING:
    from pipeline.continuous.drift import DriftReport
    from pipeline.workdir import WorkDir


def watch(
    config: Annotated[
        Path,
        typer.Argument(
            help="The YAML file; its section retrain says what starts a run.", autocompletion=completing.configs
        ),
    ],
    set_: SetOption = None,
    workdir: WorkdirOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look once, run if there is a reason to, and end; for cron.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Don't show the stages of the runs.")] = False,
) -> None:
    """Run the pipeline whenever there is new data to learn from: on arrival, on a schedule, or on drift."""
    from pipeline.config.loading import load
    from pipeline.continuous.starting import drift_command, run_command
    from pipeline.continuous.watching import Watcher
    from pipeline.workdir import WorkDir

    overrides = list(set_ or [])
    loaded = load(config, overrides).config
    place = WorkDir.of(loaded.name, workdir)
    place.create()
    signal.signal(signal.SIGTERM, _interrupt)
    with _alone(place):
        watcher = Watcher(
            config,
            overrides,
            place,
            run=lambda found: run_command(config, place.root, found, quiet),
            compare=lambda: drift_command(config, place.root, overrides),
            say=_say,
        )
        if once:
            attempt = watcher.step()
            if attempt is not None and attempt.outcome != "succeeded":
                raise typer.Exit(3 if attempt.outcome == "refused" else 1)
            return
        _say(f"watching {loaded.data.source} for {place.root}; Ctrl-C ends it")
        pause = threading.Event()
        while True:
            seconds = loaded.retrain.poll_seconds
            try:
                watcher.step()
            except ConfigError as error:
                watcher.complain(f"the config can't be used: {error}")
            pause.wait(seconds)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    typer.echo(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}")


@contextlib.contextmanager
def _alone(place: WorkDir) -> Iterator[None]:
    """Hold the place of the one watch of a work directory."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(place.lock_part("watch"))
        except BlockingIOError as error:
            raise ConfigError(
                f"another `slipway watch` (process {error}) is watching for {place.root}; end it first, or choose "
                "another work directory with --workdir"
            ) from None
        yield


def drift(
    config: ConfigOption = None,
    set_: SetOption = None,
    workdir: WorkdirOption = None,
    log: Annotated[
        Path | None, typer.Option("--log", help="The model server's --request_log_dir (default: retrain.log).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what the model server was asked with what the served version was trained on; exit 3 if it drifted."""
    from pipeline.cli.noise import noise_to
    from pipeline.config.loading import load
    from pipeline.continuous.drift import compare_requests
    from pipeline.evaluation.verdict import Verdict
    from pipeline.locating import find_workdir, last_run

    place = find_workdir(config, workdir)
    loaded = load(config or Path(last_run(place).config), set_ or []).config
    logs = log or (Path(loaded.retrain.log) if loaded.retrain.log else None)
    if logs is None:
        raise ConfigError(
            "no request log is named; start the model server with --request_log_dir=DIR "
            "--request_log_sampling_rate=0.1, and name DIR by --log or retrain.log"
        )
    place.create()
    with (
        noise_to(place.logs / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-drift.log") as screen,
        working("comparing requests with the training data", screen.err),
    ):
        report = compare_requests(loaded, place, logs, time.time())
    if as_json:
        typer.echo(json.dumps(report.plain(), indent=1))
    else:
        _show(report)
    if report.drifted:
        raise GateRefused(Verdict("Drift", False, report.sentence, report.plain()["checks"]))


def _show(report: DriftReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"Requests of version {report.version} against its training data", title_justify="left",
        header_style="bold",
    )  # fmt: skip
    for name in ("what", "distance", "value", "threshold", "requests", "training data", "verdict"):
        table.add_column(name, overflow="fold")
    for check in report.checks:
        verdict = Text("same" if check.passed else "drifted", style="green" if check.passed else "bold red")
        table.add_row(
            check.name, check.distance, f"{check.value:.4f}", f"{check.threshold:g}", check.requests, check.reference,
            verdict,
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(f"{report.sentence}. Written to {report.path}"))
