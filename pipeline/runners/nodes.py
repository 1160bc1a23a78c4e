"""One node of a prepared run in this process, and the end of such a run.

Comes in: a plan and the name of a node. Goes out: the stage's record. Any scheduler that can start processes drives a
run with it: Airflow, a shell script, `make`. Called by `slipway run-node` and `slipway finish-run`.

A process that is killed leaves nothing that the next attempt could mistake for a result: the kernel releases its
locks, what it had begun to write is removed before the node is executed again under the same execution, and a node
that is done stays done.
"""

from __future__ import annotations

import calendar
import difflib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.records import (
    FAILED,
    LEFT_OUT,
    PENDING,
    REFUSED,
    RUNNING,
    STAGE_FAILED,
    SUCCEEDED,
    RunRecord,
    StageRecord,
)
from pipeline.runners.journal import Journal
from pipeline.runners.observer import Observer
from pipeline.workdir import WorkDir

if TYPE_CHECKING:
    from pipeline.runners.plan import Plan
    from pipeline.runners.stage import CompiledRun


def run_node(
    name: str, ir_file: Path, run_id: str, observer: Observer, waiting: Callable[[str], None] | None = None
) -> StageRecord:
    """Execute one node of a prepared run, or find that it is done.

    Args:
        name: id of the node; `trainer` and `example-gen` are understood.
        ir_file: the compiled pipeline, as `prepare_run` wrote it.
        run_id: of the run.
        observer: is told what happens.
        waiting: is told the process id of who works on the same stage, before it is waited for; None: no waiting.

    Returns:
        The stage's record; `state` is `left out` where the node's condition isn't met.

    Raises:
        ConfigError: the plan or the name is wrong, or something that the node needs isn't there.
        GateRefused: the node is a gate that refused.
    """
    from pipeline.runners.light_imports import load_components_lazily

    load_components_lazily()
    from pipeline.metadata_connection import MetadataAccess
    from pipeline.runners.plan import read_plan
    from pipeline.runners.stage import CompiledRun

    plan = read_plan(ir_file, run_id)
    journal = Journal(plan.workdir, run_id)
    journal.read()
    node_id = _node_id(name, [node.pipeline_node.node_info.id for node in plan.pipeline.nodes], ir_file)
    with plan.workdir.share():
        run = CompiledRun(plan.pipeline, run_id, MetadataAccess.of(plan.config.metadata, plan.workdir))
        try:
            with plan.workdir.lock_part(stage_lock(node_id), waiting):
                return _work(run, plan, journal, node_id, observer)
        except BlockingIOError as error:
            raise ConfigError(f"process {error} is working on {node_id} in {plan.workdir.root}") from None


def stage_lock(node_id: str) -> str:
    """Return the name of the lock that whoever works on a stage holds."""
    return f"stage-{node_id}"


def _work(run: CompiledRun, plan: Plan, journal: Journal, node_id: str, observer: Observer) -> StageRecord:
    """Launch the node, with its lock held, and note what came of it."""
    from pipeline.runners.facts import Facts
    from pipeline.runners.stage import Outcome, note, producers

    record, node = journal.read(), run.node(node_id)
    done = run.finished(node_id)
    if done is not None:
        outcome = Outcome(record.stage(node_id), Facts())
        run.note_finished(node, done, outcome)
        with journal.update() as record:
            note(record, outcome)
        observer.stage_finished(outcome.stage)
        return outcome.stage
    _check_upstream(run, record, node)
    _check_definition(plan, node)
    outcome = Outcome(StageRecord(node_id, RUNNING), Facts())
    with journal.update() as record:
        record.state, record.error, record.finished = RUNNING, "", ""
        note(record, outcome)
    try:
        run.launch(node, outcome, producers(record), observer)
    finally:
        with journal.update() as record:
            note(record, outcome)
    return outcome.stage


def _node_id(name: str, ids: list[str], ir_file: Path) -> str:
    """Return a node's id in its own spelling."""
    plain = {node_id.lower(): node_id for node_id in ids}
    key = name.lower().replace("-", "").replace("_", "")
    if key in plain:
        return plain[key]
    near = difflib.get_close_matches(key, plain, n=1)
    hint = f"; did you mean {plain[near[0]]}?" if near else ";"
    raise ConfigError(f"{ir_file} has no node {name!r}{hint} Its nodes are {', '.join(ids)}")


def _check_upstream(run: CompiledRun, record: RunRecord, node: Any) -> None:
    """Refuse to start a node before those that it depends on are done."""
    missing = [
        upstream
        for upstream in node.upstream_nodes
        if record.stage(upstream).state != LEFT_OUT and run.finished(upstream) is None
    ]
    if missing:
        states = ", ".join(f"{upstream} ({record.stage(upstream).state})" for upstream in sorted(missing))
        raise ConfigError(
            f"{node.node_info.id} of run {record.run_id} needs what these nodes make, which haven't succeeded: "
            f"{states}; run them first, in the order of dag.json"
        )


def _check_definition(plan: Plan, node: Any) -> None:
    """Refuse to execute a node by other code, or on other data, than the plan was made for.

    Its results would stand in the cache under the key of what it was planned with.
    """
    from pipeline.runners.launching import planned_key
    from pipeline.running import write_data_settings
    from pipeline.stage_keys import data_fingerprint, difference, stage_keys

    node_id = node.node_info.id
    planned = planned_key(node)
    if planned is None:
        return
    reads_data = node_id == "ExampleGen"
    fingerprint = data_fingerprint(plan.config, plan.workdir.stat_cache) if reads_data else ""
    now = stage_keys(plan.config, fingerprint).get(node_id)
    changes = difference(planned, now.to_json()) if now is not None else ["this version has no such stage"]
    if changes:
        raise ConfigError(
            f"{node_id} of run {plan.run_id} isn't what was prepared any more: {'; '.join(changes[:3])}; prepare a new "
            "run under another id"
        )
    if reads_data:
        write_data_settings(plan.config, plan.workdir)


def finish_run(workdir: WorkDir, run_id: str) -> RunRecord:
    """Close the record of a run that was driven node by node; doing it twice is the same as once.

    Args:
        workdir: the work directory.
        run_id: of the run.

    Returns:
        The record; `state` is `succeeded`, `refused` or `failed`, and `error` says why.

    Raises:
        ConfigError: there is no such run, or one of its stages is still at work.
    """
    with Journal(workdir, run_id).update() as record:
        for stage in record.stages:
            if stage.state == RUNNING:
                _note_death(workdir, stage)
        failed = [stage for stage in record.stages if stage.state == STAGE_FAILED]
        missing = [stage.id for stage in record.stages if stage.state == PENDING]
        record.error = "; ".join(f"{stage.id} failed: {stage.detail}" for stage in failed)
        if any(not verdict["passed"] for verdict in record.verdicts):
            record.state = REFUSED
        elif failed or missing:
            record.state = FAILED
            record.error = record.error or f"these stages were not run: {', '.join(missing)}"
        else:
            record.state = SUCCEEDED
        if not record.finished:
            record.finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            record.seconds = float(_seconds(record.finished) - _seconds(record.started))
    return record


def _note_death(workdir: WorkDir, stage: StageRecord) -> None:
    """Mark a stage as failed whose process is gone without having said how it ended."""
    try:
        with workdir.lock_part(stage_lock(stage.id)):
            stage.state, stage.detail = STAGE_FAILED, "its process ended before the stage did"
    except BlockingIOError as error:
        raise ConfigError(f"{stage.id} is still at work (process {error}); finish the run when it is done") from None


def _seconds(stamp: str) -> int:
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))
