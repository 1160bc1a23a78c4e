"""`slipway config show` and `slipway config schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigArgument, JsonOption, SetOption
from pipeline.errors import ConfigError

app = typer.Typer(help="Look at configs: every setting of a file, and their schema for editors.", no_args_is_help=True)


@app.command()
def show(
    config: ConfigArgument,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the effective config: every value with its meaning, defaults included."""
    from pipeline.config.loading import load
    from pipeline.config.show import render_yaml, to_json

    loaded = load(config, set_ or [])
    typer.echo(to_json(loaded.config) if as_json else render_yaml(loaded.config, loaded.positions), nl=False)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write (default: to the screen).")] = None,
) -> None:
    """Print the JSON schema of the YAML, for editors that complete and check by one."""
    from pipeline.config.show import schema_text

    if out is None:
        typer.echo(schema_text(), nl=False)
        return
    try:
        out.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror}; name another file with --out") from error
    typer.echo(f"{out}: written. The first line of a YAML beside it: # yaml-language-server: $schema={out.name}")
