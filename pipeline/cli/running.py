"""`slipway run` and `slipway status`."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigArgument, ConfigOption, JsonOption, SetOption, WorkdirOption
from pipeline.cli.program import program
from pipeline.errors import ConfigError, GateRefused

if TYPE_CHECKING:
    from pipeline.records import RunRecord

STAGES = (
    "ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "Tuner", "BaseModel", "Trainer",
    "Resolver",
    "Evaluator", "InfraValidator", "Pusher", "Optimizer", "EdgePusher",
    "FormPusher", "BulkInferrer",
)  # fmt: skip
"""The stages in the order in which they run."""


def _stage(name: str | None) -> str | None:
    """Return a stage's name in its own spelling; `trainer` and `example-gen` are understood."""
    if name is None or name == "all":
        return name
    plain = {stage.lower(): stage for stage in STAGES}
    key = name.lower().replace("-", "").replace("_", "")
    if key not in plain:
        import difflib

        near = difflib.get_close_matches(key, plain, n=1)
        hint = f"; did you mean {plain[near[0]]}?" if near else "."
        raise ConfigError(f"there is no stage {name!r}{hint} The stages are {', '.join(STAGES)}")
    return plain[key]


def run(
    config: ConfigArgument,
    set_: SetOption = None,
    workdir: WorkdirOption = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            autocompletion=completing.one_of(completing.stages),
            help="Take what comes before from the last run; execute this stage anew.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="STAGE",
            help="Stop after this stage.",
            autocompletion=completing.one_of(completing.stages),
        ),
    ] = None,
    no_cache: Annotated[
        list[str] | None,
        typer.Option(
            "--no-cache",
            metavar="STAGE",
            autocompletion=completing.one_of(completing.stages),
            help="Execute this stage whatever the cache holds ('all': every one).",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a pipeline: from the data to the pushed model, as far as the gates let it."""
    from pipeline.cli.noise import noise_to
    from pipeline.cli.screen import RunScreen
    from pipeline.config.loading import load
    from pipeline.runners.options import RunOptions
    from pipeline.workdir import WorkDir

    loaded = load(config, set_ or [])
    forced = tuple(str(_stage(name)) for name in no_cache or [])
    options = RunOptions(_stage(from_), _stage(to), forced)
    place = WorkDir.of(loaded.config.name, workdir)
    place.create()
    log = place.logs / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.log"
    with place.lock(), noise_to(log) as screen:
        stream = io.StringIO() if quiet or as_json else screen.out
        with RunScreen(stream).prepared(loaded.config.name) as observer:
            from pipeline.running import run_pipeline

            record = run_pipeline(loaded, place, log, options, observer)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(record), indent=1))
    if record.state != "succeeded":
        raise refusal(record)
    if record.version is not None and not quiet and not as_json:
        typer.echo(f"Next: {program()} report, {program()} predict PICTURE, {program()} serve")


def refusal(record: RunRecord) -> GateRefused:
    """Return the error that says which gate refused, and where to look."""
    from pipeline.evaluation.verdict import Verdict

    refused = next(verdict for verdict in record.verdicts if not verdict["passed"])
    return GateRefused(
        Verdict(**{**refused, "sentence": f"{refused['sentence']}. Nothing was pushed; log: {record.log}"})
    )


def status(config: ConfigOption = None, workdir: WorkdirOption = None, as_json: JsonOption = False) -> None:
    """Show the last run: its stages, verdicts and what is published."""
    from pipeline.locating import find_workdir, last_run

    record = last_run(find_workdir(config, workdir))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(record), indent=1))
        return
    from rich.console import Console
    from rich.text import Text

    from pipeline.cli.screen import closing_sentence, times_table, variants_tables, verdicts_table

    console = Console(highlight=False)
    console.print(Text(f"{record.name}  run {record.run_id}  config {record.config}  log {record.log}"))
    console.print(times_table(record))
    console.print(verdicts_table(record))
    for table in variants_tables(record, console.width):
        console.print(table)
    console.print(Text(closing_sentence(record)))
