"""`slipway versions` and `slipway rollback`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pipeline.cli.options import ConfigOption, JsonOption, WorkdirOption


def versions(config: ConfigOption = None, workdir: WorkdirOption = None, as_json: JsonOption = False) -> None:
    """List the published versions: which one is served, whether its files are intact, what it reached."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.locating import find_workdir, serving_base
    from serving.publish import versions as published

    base = serving_base(find_workdir(config, workdir))
    found = published(base)
    if as_json:
        typer.echo(json.dumps([_plain(version) for version in found], indent=1))
        return
    table = Table(title=f"Versions in {base}", title_justify="left", header_style="bold")
    for name in ("version", "state", "published", "accuracy", "remark"):
        table.add_column(name, overflow="fold")
    for version in found:
        state = (
            Text("served", style="bold green") if version.served else Text("" if version.ok else "damaged", style="red")
        )
        accuracy = version.metrics.get("accuracy")
        remark = "; ".join(version.problems) or (f"brings back version {version.restores}" if version.restores else "")
        table.add_row(str(version.number), state, version.created or "", f"{accuracy:.4f}" if accuracy else "", remark)
    Console(highlight=False).print(table)


def rollback(
    to: Annotated[
        int | None, typer.Argument(help="The version to bring back (default: the one served before).")
    ] = None,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve an earlier version again; it is published anew under a larger number, which model servers pick up."""
    from pipeline.locating import find_workdir, serving_base
    from serving.publish import rollback as roll_back

    base = serving_base(find_workdir(config, workdir))
    version = roll_back(base, to)
    if as_json:
        typer.echo(json.dumps(_plain(version), indent=1))
    elif version.already_published:
        typer.echo(f"version {version.number} is served already and holds that model; nothing was changed")
    else:
        typer.echo(f"version {version.restores} is served again, as version {version.number} in {version.path}")


def _plain(version: Any) -> dict[str, Any]:
    return {
        "version": version.number,
        "path": str(version.path),
        "created": version.created,
        "served": version.served,
        "ok": version.ok,
        "problems": list(version.problems),
        "restores": version.restores,
        "already_published": version.already_published,
        "metrics": dict(version.metrics),
    }
