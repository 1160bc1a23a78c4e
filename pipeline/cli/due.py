"""`slipway due`: the question that a scheduler asks before it starts a run."""

from __future__ import annotations

import typer

from pipeline.cli.options import ConfigArgument, SetOption, WorkdirOption
from pipeline.cli.working import working

NOT_DUE = 99
"""Exit code where there is nothing to do; schedulers such as Airflow take it for a skipped task."""


def due(
    config: ConfigArgument,
    set_: SetOption = None,
    workdir: WorkdirOption = None,
) -> int:
    """Say whether a run would find new data, another config or other code: exit code 0 if so, 99 if not."""
    from pipeline.config.loading import load
    from pipeline.due import reason_to_run
    from pipeline.workdir import WorkDir

    loaded = load(config, set_ or [])
    place = WorkDir.of(loaded.config.name, workdir)
    place.create()
    with working("taking stock of the data"):
        reason = reason_to_run(loaded, place)
    typer.echo(f"due: {reason}" if reason else "not due: a run was made of all this, or the data is still arriving")
    return 0 if reason else NOT_DUE
