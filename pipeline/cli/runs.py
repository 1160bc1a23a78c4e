"""`slipway runs`: what was run, what a version came from, what differs, what may be removed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigOption, JsonOption, WorkdirOption
from pipeline.cli.publishing import Kind, KindOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.history.runs import History

app = typer.Typer(help="Look back at runs, whichever orchestrator made them.", no_args_is_help=False)

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=0, help="Show so many of the newest runs (0: all).")]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, its beginning, or 'latest'.", autocompletion=completing.runs),
]

_LIMIT = 20


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    limit: LimitOption = _LIMIT,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look back at runs, whichever orchestrator made them; without a command, list them."""
    if context.invoked_subcommand is None:
        list_(limit, config, workdir, as_json)
    elif (limit, config, workdir, as_json) != (_LIMIT, None, None, False):
        name = context.invoked_subcommand
        raise ConfigError(f"options of `slipway runs {name}` stand behind {name}, not before it")


@app.command("list")
def list_(
    limit: LimitOption = _LIMIT, config: ConfigOption = None, workdir: WorkdirOption = None, as_json: JsonOption = False
) -> None:
    """List the runs, the newest first."""
    from pipeline.history.details import summaries

    with working("reading the runs"), _history(config, workdir) as history:
        chosen = history.runs[:limit] if limit else history.runs
        rows = summaries(history, chosen)
        total = len(history.runs)
    if as_json:
        _print_json(rows)
        return
    from pipeline.cli.runs_screen import console, runs_table

    console().print(runs_table(rows))
    if total > len(rows):
        typer.echo(f"{total - len(rows)} older runs are not shown; --limit 0 shows them all")


@app.command()
def show(
    run: RunArgument = "latest", config: ConfigOption = None, workdir: WorkdirOption = None, as_json: JsonOption = False
) -> None:
    """Show one run: its stages, their artifacts and properties, the verdicts."""
    from pipeline.history.details import details

    with working("reading the runs"), _history(config, workdir) as history:
        found = details(history, history.find(run))
    if as_json:
        _print_json(found)
        return
    from pipeline.cli.runs_screen import console, print_run

    print_run(console(), found)


@app.command()
def lineage(
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="A version's number, 'latest' (the one served), or a folder.",
            autocompletion=completing.versions,
        ),
    ] = "latest",
    of: KindOption = Kind.MODEL,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell where a version or an artifact comes from: examples, config, code and commit."""
    from pipeline.history.lineage import trace_folder, trace_version

    with working("reading the runs"), _history(config, workdir) as history:
        if _is_folder(version):
            found = trace_folder(history, Path(version))
        else:
            found = trace_version(history, of.value, version)
    if as_json:
        from pipeline.history.plain import plain_lineage

        _print_json(plain_lineage(found))
        return
    from pipeline.cli.runs_screen import console
    from pipeline.cli.runs_tree import print_lineage

    print_lineage(console(), found)


@app.command()
def compare(
    a: RunArgument,
    b: RunArgument,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what differs between two runs: config, code, data, metrics, verdicts, times."""
    from pipeline.history.comparing import compare as compare_runs

    with working("reading the runs"), _history(config, workdir) as history:
        found = compare_runs(history, history.find(a), history.find(b))
    if as_json:
        from pipeline.history.plain import plain_comparison

        _print_json(plain_comparison(found))
        return
    from pipeline.cli.runs_screen import console, print_comparison

    print_comparison(console(), found)


@app.command()
def gc(
    keep: Annotated[int, typer.Option("--keep", help="Keep the newest runs whole, so many of them.")] = 5,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", help="Keep every younger run whole, too."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove; without it, only show what would be removed.")
    ] = False,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove artifacts on which no version, baseline or recent run depends; only shows them without --apply."""
    from pipeline.history.collecting import collect, plan
    from pipeline.history.plain import plain_plan

    # The plan is made under the lock: a run that ends in between would change what depends on what.
    with (
        working("reading the runs"),
        _history(config, workdir) as history,
        history.workdir.lock() if apply else contextlib.nullcontext(),
    ):
        todo = plan(history, keep, older_than)
        problems = collect(history, todo) if apply else []
    if as_json:
        _print_json({"applied": apply, **plain_plan(todo), "problems": problems})
    else:
        from pipeline.cli.runs_screen import console, print_plan

        print_plan(console(), todo, apply)
    if problems:
        raise ConfigError(*problems)


@contextlib.contextmanager
def _history(config: Path | None, workdir: Path | None) -> Iterator[History]:
    """Open what is known about the runs; errors of the store become sentences."""
    from ml_metadata.errors import StatusError

    from pipeline.config.loading import load
    from pipeline.history.runs import open_history
    from pipeline.locating import find_workdir

    settings = load(config).config.metadata if config is not None else None
    place = find_workdir(config, workdir)
    try:
        yield open_history(place, settings)
    except StatusError as error:
        raise ConfigError(
            f"the metadata store of {place.root} can't be read: {error.message or error}; if it is a database server, "
            "see that it runs; if it is a file, that it is whole and readable"
        ) from error


def _is_folder(name: str) -> bool:
    return "/" in name or name in (".", "..")


def _print_json(value: Any) -> None:
    from pipeline.history.plain import plain

    typer.echo(json.dumps(plain(value), indent=1, allow_nan=False))
