"""`slipway config show` and `slipway config schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import JsonOption, SetOption

app = typer.Typer(help="Look at configs.", no_args_is_help=True)


@app.command()
def show(
    config: Annotated[Path, typer.Argument(help="The YAML file.")],
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the effective config: every value with its meaning, defaults included."""
    from pipeline.config.loading import load
    from pipeline.config.show import render_yaml, to_json

    loaded = load(config, set_ or [])
    typer.echo(to_json(loaded.config) if as_json else render_yaml(loaded.config, loaded.positions), nl=False)


@app.command()
def schema() -> None:
    """Print the JSON schema of the YAML, for editors that complete and check by one."""
    from pipeline.config.show import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
