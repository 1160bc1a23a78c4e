"""`slipway prepare-run`, `run-node` and `finish-run`: a run whose nodes a scheduler starts one by one."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigArgument, JsonOption, SetOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError, RunFailed

if TYPE_CHECKING:
    from pipeline.records import RunRecord

SKIPPED = 99
"""Exit code of a node whose condition isn't met; Airflow's BashOperator marks the task as skipped."""

RunIdOption = Annotated[
    str, typer.Option("--run-id", metavar="ID", help="The run, by the name that the scheduler gives it.")
]


def prepare_run(
    config: ConfigArgument,
    run_id: RunIdOption,
    set_: SetOption = None,
    span: Annotated[int | None, typer.Option("--span", min=0, help="Train on the data up to this span.")] = None,
    workdir: WorkdirOption = None,
) -> None:
    """Begin a run whose nodes are started one by one, and print the path of its compiled pipeline."""
    from pipeline.cli.noise import noise_to
    from pipeline.config.loading import load
    from pipeline.runners.journal import check_run_id
    from pipeline.runners.plan_files import log_folder
    from pipeline.workdir import WorkDir

    check_run_id(run_id)
    spans = [f"data.spans.to={span}"] if span is not None else []
    loaded = load(config, [*(set_ or []), *spans])
    place = WorkDir.of(loaded.config.name, workdir)
    place.create()
    with noise_to(log_folder(place, run_id) / "prepare-run.log") as screen:
        from pipeline.runners.preparing import prepare_run as prepare

        with working("preparing the run", screen.err):
            ir = prepare(loaded, place, run_id).ir
        print(ir, file=screen.out)


def run_node(
    node: Annotated[
        str,
        typer.Argument(help="Id of the node, such as Trainer.", autocompletion=completing.one_of(completing.stages)),
    ],
    run_id: RunIdOption,
    ir: Annotated[
        Path | None, typer.Option("--ir", metavar="FILE", help="The compiled pipeline that `prepare-run` printed.")
    ] = None,
    workdir: WorkdirOption = None,
    wait: Annotated[
        bool, typer.Option(help="Wait for whoever is working on the same stage; --no-wait: end with an error.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> int:
    """Run one node of a prepared run in this process.

    Exit codes: 0 done (executed or from the cache), 99 its condition isn't met, 3 a gate refused, 2 something the
    user has to change, 1 anything else.
    """
    from pipeline.cli.noise import noise_to
    from pipeline.cli.screen import RunScreen
    from pipeline.records import LEFT_OUT
    from pipeline.runners.journal import Journal, file_name
    from pipeline.runners.nodes import run_node as execute
    from pipeline.runners.plan_files import log_folder, read_dag

    file = _ir_file(ir, workdir, run_id)
    place, _ = read_dag(file, run_id)
    record = Journal(place, run_id).read()
    sys.argv = sys.argv[:1]  # TFX hands what follows to the executors as flags
    signal.signal(signal.SIGTERM, _interrupt)  # how schedulers end a task
    with noise_to(log_folder(place, run_id) / f"{file_name(node)}.log") as screen:
        shown = RunScreen(io.StringIO() if quiet else screen.out)
        shown.run_started(record)
        try:
            stage = execute(node, file, run_id, shown, _waiting(node, screen.err) if wait else None)
        finally:
            shown.stop()
    return SKIPPED if stage.state == LEFT_OUT else 0


def finish_run(
    run_id: RunIdOption,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The YAML file of the run.")] = None,
    workdir: WorkdirOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Close a run whose nodes were started one by one: say how it ended, for `slipway status` and the next run."""
    from pipeline.cli.running import refusal
    from pipeline.cli.screen import RunScreen
    from pipeline.locating import find_workdir
    from pipeline.records import FAILED, REFUSED
    from pipeline.runners.nodes import finish_run as close

    if config is None and workdir is None:
        raise ConfigError("finish-run: name the work directory with --workdir, or the config with --config")
    record: RunRecord = close(find_workdir(config, workdir), run_id)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(record), indent=1))
    elif not quiet:
        RunScreen(sys.stdout).run_finished(record)
    if record.state == REFUSED:
        raise refusal(record)
    if record.state == FAILED:
        raise RunFailed(f"run {run_id} failed: {record.error}; logs: {record.log}")


def _ir_file(ir: Path | None, workdir: Path | None, run_id: str) -> Path:
    """Return the compiled pipeline that the options name."""
    from pipeline.runners.plan_files import IR_FILE, plan_folder
    from pipeline.workdir import WorkDir

    if ir is not None:
        return ir
    if workdir is None:
        raise ConfigError("run-node: name the compiled pipeline with --ir, or the work directory with --workdir")
    return plan_folder(WorkDir.of("", workdir), run_id) / IR_FILE


def _waiting(node: str, stream: TextIO) -> Callable[[str], None]:
    return lambda holder: print(f"{node}: waiting for process {holder}, which is working on it", file=stream)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
