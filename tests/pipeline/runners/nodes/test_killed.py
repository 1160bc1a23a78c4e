"""Processes of single nodes that are killed, and what the next attempt makes of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records import RAN, RUNNING, STAGE_FAILED
from pipeline.runners.plan import Plan
from tests.pipeline.runners.nodes.driving import Project, start
from trainer.checkpoints import FILE as CHECKPOINT

pytestmark = [pytest.mark.slow, pytest.mark.orchestration]

PATIENCE = 300
"""Seconds after which a test gives up waiting."""

HALF = """
import sys
from pathlib import Path
from pipeline.cli.app import run
from pipeline.components import example_gen

def stop_halfway(executor, input_dict, output_dict, exec_properties):
    for artifacts in output_dict.values():
        for artifact in artifacts:
            Path(artifact.uri, "half").mkdir(parents=True)
            Path(artifact.uri, "half", "written").write_text("by the first attempt")
    Path(executor._get_tmp_dir()).mkdir(parents=True, exist_ok=True)
    Path(executor._get_tmp_dir(), "error-of-the-first-attempt").write_text("a sentence")
    sys.stdin.read()

example_gen.Executor.Do = stop_halfway
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def plan(project) -> Plan:
    return project.prepare("killed", "train.epochs=40")


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so while a process lives."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it didn't come to that in time"
        time.sleep(0.05)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    process.communicate()


def files(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def test_example_gen_killed_between_files_leaves_nothing_of_itself(project, plan):
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, "run-node", "ExampleGen", "--ir", str(plan.ir), "--run-id", plan.run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: bool(list(project.workdir.artifacts.rglob("error-of-the-first-attempt"))), process)
    assert project.record(plan).stage("ExampleGen").state == RUNNING
    kill(process)
    assert list(project.workdir.artifacts.rglob("written"))

    stage = project.node(plan, "ExampleGen")
    assert stage.state == RAN
    (execution,) = project.executions("ExampleGen")
    assert execution.successful and len(execution.output_ids) == 1
    assert not list(project.workdir.artifacts.rglob("written"))
    assert not list(project.workdir.artifacts.rglob("error-of-the-first-attempt"))

    after = project.prepare("after", "train.epochs=40")
    assert project.node(after, "ExampleGen").outputs == stage.outputs
    assert {"labels.txt", "ingest_report.json"} <= files(stage.outputs[0])


def test_a_trainer_killed_in_the_middle_continues_and_leaves_one_model(project, plan):
    project.drive(plan, start="StatisticsGen", until="Transform")
    process = start(plan, "Trainer")
    wait_for(lambda: bool(list(project.workdir.unfinished.rglob(CHECKPOINT))), process)
    kill(process)
    assert project.executions("Trainer")[0].state == "RUNNING"
    halves = [Path(folder) for folder in project.workdir.artifacts.glob("Trainer/*/*") if folder.is_dir()]
    for folder in halves:
        (folder / "stray").write_text("of the first attempt", encoding="utf-8")

    stage = project.node(plan, "Trainer")
    assert stage.state == RAN and stage.detail.startswith("40 epochs")
    (execution,) = project.executions("Trainer")
    assert execution.successful and len(execution.outputs["model"]) == 1
    assert not list(Path(execution.outputs["model"][0]).rglob("stray"))
    assert not list(project.workdir.unfinished.rglob(CHECKPOINT))


def test_a_node_that_is_told_to_stop_says_so(project, plan):
    other = project.prepare("stopped", "train.epochs=2000")
    project.drive(other, until="Transform")
    process = start(other, "Trainer")
    wait_for(lambda: bool(list(project.workdir.unfinished.rglob(CHECKPOINT))), process)
    process.terminate()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted" in said
    assert project.record(other).stage("Trainer").state == STAGE_FAILED
    assert project.finish(other).error == "Trainer failed: interrupted"
