"""A config becomes a DAG: three files for Airflow's folder of DAGs.

Comes in: a loaded config and the work directory. Goes out: `<name>_dag.py`, the same for every pipeline, which reads
`<name>_dag.json` beside it, and `<name>_config.json`, the effective config that its runs start from. Called by
`slipway compile --target airflow`. No data is read; TFX is asked for the graph alone.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.airflow import AirflowSettings, AirflowStage
from pipeline.config.config import Config
from pipeline.config.loading import LoadedConfig
from pipeline.config.show import to_json
from pipeline.errors import ConfigError
from pipeline.fingerprint import ROOT
from pipeline.runners.airflow.stages import DOCS, GROUPS, TIMEOUT_MINUTES, group_of
from pipeline.workdir import WorkDir

DAG_FILE = Path(__file__).with_name("dag_file.py")
"""The DAG's program, copied as it is."""

OWN_TASKS = ("prepare", "finish", "look")
"""Tasks that are no stages."""


def compile_airflow(loaded: LoadedConfig, workdir: WorkDir, out: Path) -> list[Path]:
    """Write the files of a DAG.

    Args:
        loaded: the config.
        workdir: where the runs work; the same folder on every worker.
        out: Airflow's folder of DAGs, or one that is copied there; made if it is missing.

    Returns:
        The files: the DAG, its JSON, its config. The same config gives the same bytes.

    Raises:
        ConfigError: a setting of the section `airflow` names a stage that there is not, or a file can't be written.
    """
    config = loaded.config
    spec = dag_spec(config, graph_of(config), workdir)
    files = {
        f"{config.name}_config.json": to_json(config),
        f"{config.name}_dag.json": json.dumps(spec, indent=1) + "\n",
        f"{config.name}_dag.py": DAG_FILE.read_text(encoding="utf-8"),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The program last: Airflow finds a DAG whose other files are there.
        for name, text in files.items():
            _write(out / name, text)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or out} can't be written: {error.strerror}; choose another folder with --out"
        ) from error
    return [out / name for name in reversed(files)]


def graph_of(config: Config) -> dict[str, list[str]]:
    """Return what each stage waits for: the pipeline's nodes in an order in which they may run.

    Args:
        config: the config.
    """
    from pipeline.graph import build_pipeline
    from pipeline.stage_keys import stage_keys

    with tempfile.TemporaryDirectory() as folder:
        workdir = WorkDir(Path(folder))
        pipeline = build_pipeline(config, stage_keys(config, ""), workdir, "")
    return {node.id: sorted(other.id for other in node.upstream_nodes) for node in pipeline.components}


def dag_spec(config: Config, graph: Mapping[str, Sequence[str]], workdir: WorkDir) -> dict[str, Any]:
    """Return what the DAG's program reads.

    Args:
        config: the config.
        graph: what each stage waits for, by the stage's id.
        workdir: where the runs work.

    Raises:
        ConfigError: `airflow.stages` names something that is no task.
    """
    airflow = config.airflow
    _check_names(airflow, [*graph, *OWN_TASKS])
    groups = []
    for name, doc in GROUPS.items():
        tasks = [{**_task(airflow, node), "upstream": list(graph[node])} for node in graph if group_of(node) == name]
        if tasks:
            groups.append({"id": name, "doc": doc, "tasks": tasks})
    return {
        "dag_id": config.name,
        "description": config.card.description or f"The pipeline {config.name}.",
        "doc": _doc(config, workdir),
        "tags": sorted({"slipway", *airflow.tags}),
        "owner": airflow.owner,
        "command": [airflow.python or sys.executable, "-m", "pipeline"],
        "folder": str(ROOT),
        "environment": dict(airflow.environment),
        "config": f"{config.name}_config.json",
        "workdir": str(workdir.root),
        "schedule": airflow.schedule,
        "watch": airflow.watch,
        "asset": f"slipway://{config.name}/data",
        "parallelism": airflow.parallelism,
        "retry_delay_seconds": airflow.retry_delay_seconds,
        **{name: _task(airflow, name) for name in OWN_TASKS},
        "groups": groups,
    }


def _task(airflow: AirflowSettings, name: str) -> dict[str, Any]:
    """Return the settings of one task."""
    own = airflow.stages.get(name, AirflowStage())
    return {
        "id": name,
        "doc": DOCS.get(name, ""),
        "timeout_minutes": own.timeout_minutes or TIMEOUT_MINUTES.get(name, TIMEOUT_MINUTES[""]),
        "retries": airflow.retries if own.retries is None else own.retries,
        "pool": own.pool or airflow.pool,
        "pool_slots": own.pool_slots,
        "queue": own.queue or airflow.queue,
    }


def _check_names(airflow: AirflowSettings, names: Sequence[str]) -> None:
    for name in airflow.stages:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"airflow.stages.{name}: this pipeline has no such task{hint} Its tasks are {', '.join(names)}"
            )


def _doc(config: Config, workdir: WorkDir) -> str:
    """Return the DAG's page as Markdown."""
    lines = [
        f"### {config.name}",
        config.card.description,
        f"One task per stage, by `slipway run-node` in the work directory `{workdir.root}`. What was done before comes "
        "from the cache. `finish` is red where a gate refused, and its log says why.",
        "",
        "| parameter | meaning |",
        "|---|---|",
        "| `span` | the span to take; empty: the newest |",
        "| `set` | overrides of the config, such as `train.epochs=3` |",
        "",
        "To run a finished stage again, start a new run: clearing a task that succeeded executes nothing.",
    ]
    return "\n".join(line for line in lines if line is not None) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file by writing beside and renaming: Airflow reads the folder all the time."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
