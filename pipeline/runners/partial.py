"""Running a part of the pipeline: which nodes are skipped, and from which earlier run their outputs are taken."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tfx.orchestration.portable import partial_run_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline.errors import ConfigError
from pipeline.records import HIT, RAN, RESOLVED, RunRecord, StageRecord
from pipeline.runners.options import ALL, RunOptions

_REQUIRED = pipeline_pb2.NodeExecutionOptions.Skip.REQUIRED


def mark(pipeline: pipeline_pb2.Pipeline, options: RunOptions, past: Iterable[RunRecord]) -> None:
    """Write the options into a compiled pipeline: what is skipped, and what may not come from the cache.

    Args:
        pipeline: TFX's intermediate representation, changed in place.
        options: which stages run.
        past: earlier runs, the newest first.

    Raises:
        ConfigError: a stage isn't in this pipeline, or no earlier run holds what a skipped stage would have made.
    """
    nodes = [node.pipeline_node for node in pipeline.nodes]
    ids = [node.node_info.id for node in nodes]
    for name in (options.from_stage, options.to_stage, *options.no_cache):
        if name is not None and name not in (*ids, ALL):
            raise ConfigError(f"there is no stage {name!r} in this pipeline; its stages are {', '.join(ids)}")
    for node in nodes:
        forced = {*options.no_cache, options.from_stage}
        if ALL in forced or node.node_info.id in forced:
            node.execution_options.caching_options.enable_cache = False
    if not (options.from_stage or options.to_stage):
        return
    first = [options.from_stage] if options.from_stage else _roots(nodes)
    partial_run_utils.mark_pipeline(
        pipeline, from_nodes=first, to_nodes=[options.to_stage] if options.to_stage else None
    )
    required = [node.node_info.id for node in nodes if node.execution_options.skip.reuse_artifacts_mode == _REQUIRED]
    if required:
        strategy = pipeline.runtime_spec.snapshot_settings.base_pipeline_run_strategy
        strategy.base_run_id = _base_run(required, past, str(options.from_stage))


def _there(stage: StageRecord) -> bool:
    return all(os.path.exists(folder) for folder in stage.outputs)


def _roots(nodes: list[Any]) -> list[str]:
    return [node.node_info.id for node in nodes if not node.upstream_nodes]


def _base_run(required: list[str], past: Iterable[RunRecord], start: str) -> str:
    """Return the newest run that has the outputs of all required stages, none of them removed since."""
    for record in past:
        stages = {stage.id: stage for stage in record.stages if stage.state in (HIT, RAN, RESOLVED)}
        if record.executed and all(name in stages and _there(stages[name]) for name in required):
            return record.run_id
    raise ConfigError(
        f"--from {start}: no earlier run of this work directory has the results of {', '.join(required)}; run without "
        "--from first"
    )
