"""All commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any

import typer

from pipeline.cli import (
    canary,
    compiling,
    completing,
    configuring,
    diagnosing,
    due,
    imaging,
    initializing,
    lessons,
    nodes,
    optimizing,
    predicting,
    publishing,
    reporting,
    retraining,
    running,
    runs,
    serving,
    workers,
)

START, FORMS, SERVE, BACK, ELSEWHERE, MACHINE = (
    "From data to a model",
    "Forms for phones and servers",
    "Versions and serving",
    "Looking back, training again",
    "Other orchestrators",
    "This machine",
)
"""The panels of the main help, in the order in which people need them."""

app = typer.Typer(
    name="slipway",
    help="From a data set and one YAML file to a validated, trained, judged and served model.",
    epilog=lessons.START,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"slipway {metadata.version('tfx-slipway')}")
        raise typer.Exit


@app.callback()
def slipway(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Stand before all commands; what `--help` says is above."""


app.command("init", rich_help_panel=START)(initializing.init)
app.command("run", rich_help_panel=START)(running.run)
app.command("status", rich_help_panel=START)(running.status)
app.command("report", rich_help_panel=START)(reporting.report)
app.command("predict", rich_help_panel=START)(predicting.predict)
app.add_typer(configuring.app, name="config", rich_help_panel=START)
app.command("optimize", rich_help_panel=FORMS)(optimizing.optimize)
app.command("export", rich_help_panel=FORMS)(optimizing.export)
app.command("benchmark", rich_help_panel=FORMS)(optimizing.benchmark)
app.add_typer(optimizing.edge, name="edge", rich_help_panel=FORMS)
app.command("versions", rich_help_panel=SERVE)(publishing.versions)
app.command("rollback", rich_help_panel=SERVE)(publishing.rollback)
app.command("serve", rich_help_panel=SERVE, context_settings=serving.PASS_ON)(serving.serve)
app.command("gateway", rich_help_panel=SERVE)(serving.gateway)
app.add_typer(canary.app, name="canary", rich_help_panel=SERVE)
app.command("warmup", rich_help_panel=SERVE)(serving.warmup)
app.command("deploy", rich_help_panel=SERVE)(serving.deploy)
app.add_typer(runs.app, name="runs", rich_help_panel=BACK)
app.command("watch", rich_help_panel=BACK)(retraining.watch)
app.command("drift", rich_help_panel=BACK)(retraining.drift)
app.command("due", rich_help_panel=BACK)(due.due)
app.command("compile", rich_help_panel=ELSEWHERE)(compiling.compile_)
app.command("submit", rich_help_panel=ELSEWHERE)(compiling.submit)
app.command("image", rich_help_panel=ELSEWHERE)(imaging.image)
app.command("prepare-run", rich_help_panel=ELSEWHERE)(nodes.prepare_run)
app.command("run-node", rich_help_panel=ELSEWHERE)(nodes.run_node)
app.command("finish-run", rich_help_panel=ELSEWHERE)(nodes.finish_run)
app.command("beam-worker", rich_help_panel=ELSEWHERE)(workers.beam_worker)
app.command("doctor", rich_help_panel=MACHINE)(diagnosing.doctor)
lessons.teach(app)

_INTERRUPTED = 130
_RUNNING = {"run", "optimize", "watch"}


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: the words after `slipway`.

    Returns:
        The exit code: that of the error where one of ours was raised (`exit_code`), else 0, 1 or 130.
    """
    if completing.asked_by_bash():
        completing.answer_bash(lambda: _execute(arguments), os.environ)
        return 0
    try:
        result = _execute(arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        show = getattr(error, "show", None)  # errors of the command line itself print their usage
        if show is None:
            return _say(str(error), code)
        show()
        _say_example(error)
        return code
    if result == _INTERRUPTED:  # what typer makes of an interrupt
        return _interrupted(arguments)
    return result if isinstance(result, int) else 0


def _execute(arguments: Sequence[str]) -> Any:
    return app(list(arguments), prog_name="slipway", standalone_mode=False)


def _interrupted(arguments: Sequence[str]) -> int:
    runs = bool(_RUNNING.intersection(arguments[:1]))
    next_time = "; the next run continues at the first stage that is not done" if runs else ""
    return _say(f"interrupted{next_time}", _INTERRUPTED)


def _say_example(error: Exception) -> None:
    """After a mistake on the command line, show how the command is used."""
    context = getattr(error, "ctx", None)
    lesson = lessons.LESSONS.get(context.command_path.partition(" ")[2]) if context is not None else None
    if lesson is not None:
        print(f"Example: {lesson.examples[0][0]}", file=sys.stderr)


def _say(sentence: str, code: int) -> int:
    print(f"slipway: {sentence}", file=sys.stderr)
    return code
