"""The files of a prepared run, as far as they can be read without TFX: where they lie and what `dag.json` says.

Comes in: a work directory and a run id, or the path of a compiled pipeline. Goes out: paths and plain values. Called by
the command line and by `plan`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.runners.journal import check_run_id, file_name
from pipeline.workdir import WorkDir

IR_FILE, DAG_FILE, CONFIG_FILE = "ir.json", "dag.json", "config.json"

FORMAT = 1
"""Of `dag.json`; another number is refused."""


def plan_folder(workdir: WorkDir, run_id: str) -> Path:
    """Return the folder of a run's plan."""
    return workdir.plans / file_name(check_run_id(run_id))


def log_folder(workdir: WorkDir, run_id: str) -> Path:
    """Return the folder of a run's logs, one per node; it is made if need be."""
    folder = workdir.logs / file_name(check_run_id(run_id))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_dag(ir_file: Path, run_id: str) -> tuple[WorkDir, dict[str, Any]]:
    """Return the work directory and the graph of the run that a compiled pipeline belongs to.

    Args:
        ir_file: the compiled pipeline; `dag.json` lies beside it.
        run_id: of the run.

    Raises:
        ConfigError: the file is missing or damaged, or belongs to another run, or the work directory is gone.
    """
    check_run_id(run_id)
    file = ir_file.absolute().parent / DAG_FILE
    text = read_text(file)
    try:
        dag = json.loads(text)
        workdir = WorkDir(Path(dag["workdir"]))
        if dag["format"] != FORMAT or not isinstance(dag["run_id"], str):
            raise ValueError(f"format {dag['format']!r}, expected {FORMAT}")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file} is no plan that this version reads ({error}); make it again with `slipway prepare-run`"
        ) from None
    if dag["run_id"] != run_id:
        raise ConfigError(f"--run-id: received {run_id}, but {ir_file} is the plan of run {dag['run_id']}")
    if not workdir.records.is_dir():
        raise ConfigError(f"{file}: the work directory {workdir.root} is gone; prepare a new run")
    return workdir, dag


def read_text(file: Path) -> str:
    """Return the text of a plan's file.

    Raises:
        ConfigError: it can't be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"{file} can't be read: {reason}; expected the files that `slipway prepare-run` writes"
        ) from None
