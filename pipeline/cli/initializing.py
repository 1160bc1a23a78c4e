"""`slipway init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.program import program
from pipeline.cli.working import working


def init(
    folder: Annotated[Path, typer.Argument(help="Images in a folder per class, or in train/, val/, test/ of such.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The YAML file to write (default: NAME.yaml here).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Look at a folder of images and write a commented config for it."""
    from pipeline.initialize import write_config

    target = out if out is not None else Path(f"{folder.resolve().name or 'images'}.yaml")
    with working(f"looking at {folder}"):
        facts = write_config(folder, target, force)
    typer.echo(f"{target}: written for {facts.images:,} images in {len(facts.counts)} classes.")
    typer.echo(f"Look at it, then: {program()} run {target}")
