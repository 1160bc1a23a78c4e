"""Compiling a pipeline for a run whose nodes are started one by one.

Comes in: a loaded config, a work directory and a run id. Goes out: `WORKDIR/plans/<run id>/` with `ir.json` (TFX's
intermediate representation), `dag.json` (what a scheduler needs to know) and `config.json` (the effective config), and
a record in which every stage is pending. The plan pins the definition for the whole run. Called by `slipway
prepare-run`.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tfx.dsl.compiler import compiler
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto.orchestration import pipeline_pb2

from pipeline.config.config import Config
from pipeline.config.loading import LoadedConfig
from pipeline.environment import environment
from pipeline.errors import ConfigError
from pipeline.graph import build_pipeline
from pipeline.metadata_connection import MetadataAccess
from pipeline.optimizing.obstacles import obstacles
from pipeline.records import HIT, RAN, RESOLVED, RunRecord, StageRecord, records
from pipeline.runners import partial
from pipeline.runners.journal import Journal
from pipeline.runners.options import RunOptions
from pipeline.runners.plan import Plan, read_plan
from pipeline.runners.plan_files import CONFIG_FILE, DAG_FILE, FORMAT, IR_FILE, plan_folder
from pipeline.running import pin_spans, run_fingerprint, stages_to_force
from pipeline.stage_keys import data_fingerprint, stage_keys
from pipeline.workdir import WorkDir
from transform.sources.spans import span_numbers


def compile_ir(pipeline: tfx_pipeline.Pipeline) -> pipeline_pb2.Pipeline:
    """Return TFX's intermediate representation of a pipeline."""
    return compiler.Compiler().compile(pipeline)


def dag_of(pipeline: pipeline_pb2.Pipeline) -> list[dict[str, Any]]:
    """Return the nodes of a compiled pipeline in the order in which they may run: id and the ids before them."""
    nodes = [node.pipeline_node for node in pipeline.nodes]
    return [{"id": node.node_info.id, "upstream": sorted(node.upstream_nodes)} for node in nodes]


def prepare_run(loaded: LoadedConfig, workdir: WorkDir, run_id: str) -> Plan:
    """Write the plan of a run and begin its record; doing it twice for the same id is the same as once.

    A run of which a stage has succeeded keeps its plan, whatever became of the data in the meantime.

    Args:
        loaded: the config.
        workdir: its work directory.
        run_id: chosen by the scheduler.

    Raises:
        ConfigError: the id can't name a run, the run has begun with another config, or a local run is using the work
            directory.
        DataError: the data can't be used.
        MetadataAway: the metadata store can't be reached.
    """
    journal = Journal(workdir, run_id)
    ir_file = plan_folder(workdir, run_id) / IR_FILE
    with workdir.share(), workdir.lock_part("prepare", lambda holder: None):
        MetadataAccess.of(loaded.config.metadata, workdir).open()  # nodes that start at once find its tables made
        config = pin_spans(loaded.config)
        fingerprint = data_fingerprint(config, workdir.stat_cache)
        keys = stage_keys(config, fingerprint)
        record = journal.begin(config.name, str(loaded.path), run_fingerprint(config, keys))
        record.settings, record.environment = config.model_dump(mode="json"), environment()
        if _stands(journal.find(), record, ir_file):
            return read_plan(ir_file, run_id)
        ir = compile_ir(build_pipeline(config, keys, workdir, fingerprint))
        partial.mark(ir, RunOptions(no_cache=tuple(stages_to_force(list(records(workdir.records)), keys))), ())
        _write(ir_file.parent, ir, config, workdir, run_id)
        record.stages = [StageRecord(node["id"]) for node in dag_of(ir)]
        record.warnings, record.spans = obstacles(config), span_numbers(config.data)
        with journal.locked():
            record.save(workdir.records)
    return read_plan(ir_file, run_id)


def _stands(known: RunRecord | None, wanted: RunRecord, ir_file: Path) -> bool:
    """Return whether the run has a plan already that is to be kept.

    Raises:
        ConfigError: it has, and was asked for with another config.
    """
    if known is None or not ir_file.exists():
        return False
    if known.fingerprint == wanted.fingerprint:
        return True
    if not any(stage.state in (HIT, RAN, RESOLVED) for stage in known.stages):
        return False
    if _asked_for(known) != _asked_for(wanted):
        raise ConfigError(
            f"run {known.run_id} has begun with another config; a run keeps its definition to the end, so choose a new "
            "run id"
        )
    return True


def _asked_for(record: RunRecord) -> dict[str, Any]:
    """Return a run's config without the spans that it found."""
    settings = copy.deepcopy(record.settings)
    if settings.get("data", {}).get("spans"):
        settings["data"]["spans"].pop("only", None)
    return settings


def _write(folder: Path, ir: pipeline_pb2.Pipeline, config: Config, workdir: WorkDir, run_id: str) -> None:
    """Write the files beside the plan's place, then move them there."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    dag = {
        "format": FORMAT,
        "pipeline": config.name,
        "run_id": run_id,
        "workdir": str(workdir.root),
        "nodes": dag_of(ir),
    }
    (part / CONFIG_FILE).write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (part / DAG_FILE).write_text(json.dumps(dag, indent=1) + "\n", encoding="utf-8")
    (part / IR_FILE).write_text(json_format.MessageToJson(ir, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
