"""Arguments and options that several commands share, with what the shell offers for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import completing

ConfigArgument = Annotated[Path, typer.Argument(help="The YAML file.", autocompletion=completing.configs)]
WorkdirOption = Annotated[
    Path | None,
    typer.Option(
        "--workdir",
        "-w",
        help="Work directory of the pipeline (default: runs/NAME below this folder).",
        autocompletion=completing.workdirs,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The YAML file whose runs are meant (default: the newest run's).",
        autocompletion=completing.configs,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value, such as train.epochs=3 (repeatable).",
        autocompletion=completing.settings,
    ),
]
