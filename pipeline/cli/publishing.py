"""`slipway versions` and `slipway rollback`."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipeline.cli import completing
from pipeline.cli.options import ConfigOption, JsonOption, WorkdirOption


class Kind(str, enum.Enum):
    """What is published, each kind with versions of its own."""

    MODEL = "model"
    EDGE = "edge"
    FORMS = "forms"


KindOption = Annotated[
    Kind,
    typer.Option(
        "--of", help="What is published: model (the SavedModel), edge (the mobile bundle), forms (for other servers)."
    ),
]


def versions(
    of: KindOption = Kind.MODEL, config: ConfigOption = None, workdir: WorkdirOption = None, as_json: JsonOption = False
) -> None:
    """List the published versions: which one is served, whether its files are intact, what it reached."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.locating import find_workdir, serving_base
    from serving.publish import versions as published

    base = serving_base(find_workdir(config, workdir), of.value)
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
        accuracy = ", ".join(_accuracies(version.metrics))
        remark = "; ".join(version.problems) or (f"brings back version {version.restores}" if version.restores else "")
        table.add_row(str(version.number), state, version.created or "", accuracy, remark)
    Console(highlight=False).print(table)


def rollback(
    to: Annotated[
        int | None,
        typer.Argument(
            help="The version to bring back (default: the one served before).", autocompletion=completing.versions
        ),
    ] = None,
    of: KindOption = Kind.MODEL,
    config: ConfigOption = None,
    workdir: WorkdirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve an earlier version again; it is published anew under a larger number, which model servers pick up."""
    from pipeline.locating import find_workdir, serving_base
    from serving.publish import rollback as roll_back

    base = serving_base(find_workdir(config, workdir), of.value)
    version = roll_back(base, to)
    if as_json:
        typer.echo(json.dumps(_plain(version), indent=1))
    elif version.already_published:
        typer.echo(f"version {version.number} is served already and holds that content; nothing was changed")
    else:
        typer.echo(f"version {version.restores} is served again, as version {version.number} in {version.path}")


def _accuracies(metrics: Mapping[str, float | None]) -> list[str]:
    """Return the accuracy of a model, or of each file in a bundle, as text."""
    prefix = "accuracy"
    return [
        " ".join(part for part in (name.removeprefix(prefix).removeprefix(" of "), f"{value:.4f}") if part)
        for name, value in metrics.items()
        if name.partition(" ")[0] == prefix and value is not None
    ]


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
