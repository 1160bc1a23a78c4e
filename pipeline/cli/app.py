"""All commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from pipeline.cli import (
    canary,
    compiling,
    configuring,
    diagnosing,
    due,
    imaging,
    initializing,
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

app = typer.Typer(
    name="slipway",
    help="From a data set and one YAML file to a validated, trained, judged and served model.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(initializing.init)
app.add_typer(configuring.app, name="config")
app.command("run")(running.run)
app.command("status")(running.status)
app.command("compile")(compiling.compile_)
app.command("submit")(compiling.submit)
app.command("image")(imaging.image)
app.command("prepare-run")(nodes.prepare_run)
app.command("run-node")(nodes.run_node)
app.command("finish-run")(nodes.finish_run)
app.command("report")(reporting.report)
app.add_typer(runs.app, name="runs")
app.command("due")(due.due)
app.command("watch")(retraining.watch)
app.command("drift")(retraining.drift)
app.command("predict")(predicting.predict)
app.command("optimize")(optimizing.optimize)
app.command("export")(optimizing.export)
app.command("benchmark")(optimizing.benchmark)
app.add_typer(optimizing.edge, name="edge")
app.command("versions")(publishing.versions)
app.command("rollback")(publishing.rollback)
app.command("serve", context_settings=serving.PASS_ON)(serving.serve)
app.command("gateway")(serving.gateway)
app.add_typer(canary.app, name="canary")
app.command("warmup")(serving.warmup)
app.command("deploy")(serving.deploy)
app.command("beam-worker")(workers.beam_worker)
app.command("doctor")(diagnosing.doctor)

_INTERRUPTED = 130


def run(arguments: Sequence[str]) -> int:
    """Run a command.

    Args:
        arguments: the words after `slipway`.

    Returns:
        The exit code: that of the error where one of ours was raised (`exit_code`), else 0, 1 or 130.
    """
    try:
        result = app(list(arguments), standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
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
        return code
    if result == _INTERRUPTED:  # what typer makes of an interrupt
        return _interrupted()
    return result if isinstance(result, int) else 0


def _interrupted() -> int:
    return _say("interrupted; the next run continues at the stage that was running", _INTERRUPTED)


def _say(sentence: str, code: int) -> int:
    print(f"slipway: {sentence}", file=sys.stderr)
    return code
