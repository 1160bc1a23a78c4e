"""`slipway image`: what a registry needs to build the container that stages and workers run in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import completing
from pipeline.cli.options import JsonOption, SetOption


def image(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    config: Annotated[
        Path | None,
        typer.Argument(help="A YAML file, for its vertex.image and model.module.", autocompletion=completing.configs),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--image", metavar="NAME:TAG", help="Name of the image; unset: vertex.image.")
    ] = None,
    set_: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that were changed by hand.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write Dockerfile, .dockerignore and cloudbuild.yaml of the pipeline's image, with all that they copy."""
    import dataclasses
    import json

    from pipeline.images.context import write_context

    modules: list[Path] = []
    if config is not None:
        from pipeline.config.loading import load

        settings = load(config, set_ or []).config
        name = name or settings.vertex.image or settings.kubeflow.image
        modules = [Path(settings.model.module).expanduser()] if settings.model.module else []
    name = name or "slipway-pipeline:0.1.0"
    outcome = write_context(out, name, modules, force=force)
    if as_json:
        typer.echo(json.dumps({"image": name, **dataclasses.asdict(outcome)}, indent=1))
        return
    typer.echo(f"{out}: {len(outcome.written)} files written, {len(outcome.unchanged)} unchanged")
    for module in modules:
        typer.echo(f"the image has {module} as /modules/{module.name}; set vertex.model_module to it")
    typer.echo(f"docker build -t {name} {out}")
