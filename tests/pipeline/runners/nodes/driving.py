"""A tiny project, and how a scheduler drives its runs: one `slipway run-node` after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.config.loading import load
from pipeline.metadata import MetadataReader, StoredExecution
from pipeline.metadata_connection import MetadataAccess
from pipeline.records import RunRecord, StageRecord
from pipeline.runners.journal import Journal
from pipeline.runners.nodes import finish_run, run_node
from pipeline.runners.observer import Observer
from pipeline.runners.plan import Plan
from pipeline.runners.preparing import prepare_run
from pipeline.workdir import WorkDir

YAML = """
name: tiny
data: {source: digits, limit: 200}
transform: {size: [8, 8]}
model: {name: cnn_small, width: 0.25}
train: {epochs: 1, batch_size: 32}
evaluate: {gates: {accuracy: {min: 0.01}}}
bulk_infer: {enabled: false}
"""


class Project:
    """A config, a work directory and the runs that are driven in it."""

    def __init__(self, root: Path, section: str = ""):
        self.file = root / "tiny.yaml"
        self.file.write_text(YAML + section, encoding="utf-8")
        self.workdir = WorkDir.of("tiny", root / "work")
        self.workdir.create()

    def prepare(self, run_id: str, *overrides: str) -> Plan:
        return prepare_run(load(self.file, overrides), self.workdir, run_id)

    def node(self, plan: Plan, name: str, observer: Observer | None = None, **options: Any) -> StageRecord:
        return run_node(name, plan.ir, plan.run_id, observer or Observer(), **options)

    def drive(self, plan: Plan, *, until: str | None = None, start: str | None = None) -> None:
        """Run the nodes in their order, from and up to given ones."""
        names = nodes(plan)
        first = names.index(start) if start else 0
        last = names.index(until) + 1 if until else len(names)
        for name in names[first:last]:
            self.node(plan, name)

    def finish(self, plan: Plan) -> RunRecord:
        return finish_run(self.workdir, plan.run_id)

    def record(self, plan: Plan) -> RunRecord:
        return Journal(self.workdir, plan.run_id).read()

    def executions(self, node: str) -> list[StoredExecution]:
        """Return all executions of a node that the metadata store holds."""
        reader = MetadataReader(MetadataAccess.of(load(self.file).config.metadata, self.workdir))
        found = [execution for run in reader.runs_executions(reader.runs()).values() for execution in run]
        return [execution for execution in found if reader.place(execution.id).node == node]


def nodes(plan: Plan) -> list[str]:
    """Return the nodes of a plan in the order in which they may run."""
    return [node["id"] for node in json.loads((plan.folder / "dag.json").read_text(encoding="utf-8"))["nodes"]]


def start(plan: Plan, node: str, *options: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `slipway run-node` in a process of its own."""
    words = ["-m", "pipeline", "run-node", node, "--ir", str(plan.ir), "--run-id", plan.run_id, *options]
    return subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
