"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkdirOption = Annotated[
    Path | None,
    typer.Option("--workdir", "-w", help="Work directory of the pipeline (default: runs/NAME below this folder)."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The YAML file whose runs are meant (default: the newest run's)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value, such as train.epochs=3 (repeatable)."),
]
