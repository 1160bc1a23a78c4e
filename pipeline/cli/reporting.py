"""`slipway report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigOption, WorkdirOption
from pipeline.cli.working import working
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.records import RunRecord
    from pipeline.workdir import WorkDir


def report(
    run: Annotated[
        str | None,
        typer.Argument(help="Id of a run, or its beginning (default: the last run).", autocompletion=completing.runs),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Show two runs side by side.", autocompletion=completing.runs),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write (default: reports/RUN.html of the work directory)."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
) -> None:
    """Write a page about a run: verdicts, data, training, evaluation, forms, what was published."""
    from pipeline.cli.noise import noise_to
    from pipeline.locating import find_workdir, last_run, run_named

    if run is not None and compare is not None:
        raise ConfigError(f"received the run {run} and --compare {' '.join(compare)}; expected one of the two")
    place = find_workdir(config, workdir)
    if compare is not None:
        first, second = (run_named(place, name) for name in compare)
        target = out or place.reports / f"{first.stem}--{second.stem}.html"
        place.logs.mkdir(exist_ok=True)
        with noise_to(place.logs / "report.log") as screen, working("comparing two runs", screen.err):
            page = _compared(first, second, place)
    else:
        record = last_run(place) if run is None else run_named(place, run)
        target = out or place.reports / f"{record.stem}.html"
        place.logs.mkdir(exist_ok=True)
        with noise_to(place.logs / "report.log") as screen, working("writing the page", screen.err):
            page = _rendered(record, place)
    _write(target, page)
    typer.echo(str(target))
    if open_ and not _shown(target):
        typer.echo("open this file in a browser")


def _rendered(record: RunRecord, place: WorkDir) -> str:
    from pipeline.report.page import render

    return render(record, place)


def _compared(first: RunRecord, second: RunRecord, place: WorkDir) -> str:
    from pipeline.report.comparison import render_comparison

    return render_comparison(first, second, place)


def _write(target: Path, page: str) -> None:
    """Write the page, whole or not at all.

    Raises:
        ConfigError: the file can't be written.
    """
    from serving.durable import write_durably

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, page)
    except OSError as error:
        raise ConfigError(
            f"{target} can't be written: {error.strerror}; name another file with --out, in a folder that you may "
            "write to"
        ) from error


def _shown(target: Path) -> bool:
    """Open a page where somebody can see it: on a machine with a screen."""
    import os
    import sys
    import webbrowser

    if not sys.stdout.isatty() or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    return webbrowser.open(target.absolute().as_uri())
