"""`slipway doctor`."""

from __future__ import annotations

import typer

from pipeline.cli.options import JsonOption
from pipeline.cli.working import working


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine can do, and how to get what is missing."""
    from rich.console import Console

    from pipeline import doctor as checks

    with working("looking at this machine"):
        found = checks.check_all()
    if as_json:
        typer.echo(checks.to_json(found))
    else:
        checks.render(found, Console(highlight=False))
    raise typer.Exit(checks.exit_code(found))
