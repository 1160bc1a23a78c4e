"""The plan of a run whose nodes are started one by one: the compiled pipeline, its graph and its config.

Comes in: the files that `slipway prepare-run` wrote. Goes out: what one run is going to do. Called by `run-node`, which
is why nothing is imported here that only compiling needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format
from pydantic import ValidationError
from tfx.proto.orchestration import pipeline_pb2

from pipeline.config.config import Config
from pipeline.errors import ConfigError
from pipeline.runners.plan_files import CONFIG_FILE, IR_FILE, read_dag, read_text
from pipeline.workdir import WorkDir


@dataclass(frozen=True)
class Plan:
    """What one run is going to do.

    Attributes:
        folder: where its files lie.
        workdir: the work directory.
        run_id: of the run.
        config: the effective config.
        pipeline: the compiled pipeline.
    """

    folder: Path
    workdir: WorkDir
    run_id: str
    config: Config
    pipeline: pipeline_pb2.Pipeline

    @property
    def ir(self) -> Path:
        """The file of the compiled pipeline."""
        return self.folder / IR_FILE


def read_plan(ir_file: Path, run_id: str) -> Plan:
    """Read a plan.

    Args:
        ir_file: its `ir.json`; `dag.json` and `config.json` lie beside it.
        run_id: of the run.

    Raises:
        ConfigError: the files are missing or damaged, or belong to another run.
    """
    workdir, _ = read_dag(ir_file, run_id)
    folder = ir_file.absolute().parent
    try:
        pipeline = json_format.Parse(read_text(ir_file), pipeline_pb2.Pipeline())
    except json_format.ParseError as error:
        reason = str(error).split("\n", 1)[0][:200]
        raise ConfigError(
            f"{ir_file} is no compiled pipeline of this version: {reason}; make it again with `slipway prepare-run`"
        ) from None
    if not pipeline.nodes:
        raise ConfigError(f"{ir_file} holds no nodes; make it again with `slipway prepare-run`")
    return Plan(folder, workdir, run_id, _config(folder / CONFIG_FILE), pipeline)


def _config(file: Path) -> Config:
    try:
        return Config.model_validate_json(read_text(file))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise ConfigError(
            f"{file} is no config that this version reads: {place}: {problem['msg']}; prepare a new run"
        ) from None
