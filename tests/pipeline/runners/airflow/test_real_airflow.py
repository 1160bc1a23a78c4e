"""Real Airflows, 3 and 2: the DAG's program with stages that take no time, and the whole pipeline of the digits.

Both in one file, since the servers are what costs most, and a file's tests run in one process.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.records import HIT, RAN, RESOLVED, RUNNING, RunRecord, records
from pipeline.runners.airflow import compile_airflow, submit
from pipeline.workdir import WorkDir
from tests.pipeline.runners.airflow.installation import ROOT, RUN_SECONDS, Installation, wait_for
from tests.pipeline.runners.airflow.rehearsals import ADMIN, GRAPH, Rehearsals, config

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.orchestration]

# Enough to learn the digits, and to make a form of each kind that passes.
SHORT = (
    "train.epochs=6",
    "tune.trials=1",
    "tune.epochs=1",
    "evaluate.gates={accuracy: {min: 0.5}}",
    "compress.variants=[tflite_float16, onnx_float32]",
    "compress.budget={max_accuracy_drop: 0.6, max_worst_class_drop: null}",
)


@pytest.fixture(scope="module")
def rehearsals(airflow: Installation, tmp_path_factory: pytest.TempPathFactory) -> Rehearsals:
    """All the DAGs of this module, so that Airflow finds them while it looks once."""
    made = Rehearsals(airflow, tmp_path_factory.mktemp("rehearsals"))
    meeting = {"meet": ["StatisticsGen", "SchemaGen"], "codes": {"Tuner": [99], "Trainer": [1, 137]}}
    made.write("steady", meeting)
    made.write("refused", {"codes": {"StatisticsGen": [3], "finish-run": [3]}})
    made.write("wrong", {"codes": {"prepare-run": [2], "finish-run": [2]}})
    made.write("smaller", {"plan": [node for node in GRAPH if node != "Tuner"]})
    made.write("larger", {"plan": [*GRAPH, "Optimizer"], "codes": {"finish-run": [1]}})
    made.write("killed", {"hang": ["ExampleGen", "Trainer"], "leave": ["ExampleGen"]})
    made.write("hanging", {"hang": ["ExampleGen"], "codes": {"finish-run": [1]}}, "airflow.retries=0", timeout=0.05)
    made.write("watching", {}, "airflow.watch='0 0 1 1 *'")
    return made


def test_stages_run_side_by_side_are_retried_and_may_be_left_out(rehearsals: Rehearsals) -> None:
    state, tasks = rehearsals.end("steady", rehearsals.start("steady", 3, ("train.epochs=2", "card.license=a b; c")))
    assert state == "success"
    assert tasks["Tuner"] == ("skipped", 1)
    assert tasks["Trainer"] == ("success", 3)
    assert {tasks[name] for name in ("StatisticsGen", "SchemaGen", "Pusher", "finish")} == {("success", 1)}
    (prepared,) = rehearsals.starts("steady", "prepare-run")
    words = prepared["words"]
    assert words[words.index("--set") :] == ["--set", "train.epochs=2", "--set", "card.license=a b; c", "--span", "3"]
    assert not [name for name in prepared["env"] if name.startswith("AIRFLOW")]


def test_what_a_stage_prints_stands_in_its_log(rehearsals: Rehearsals) -> None:
    name = rehearsals.name("steady")
    run_id = rehearsals.airflow.run_ids(name)[0]
    assert "Trainer says 1" in rehearsals.airflow.log(name, run_id, "Trainer", 1)
    assert "Trainer says 0" in rehearsals.airflow.log(name, run_id, "Trainer", 3)


def test_a_gate_that_refuses_is_asked_once_and_the_run_is_red(rehearsals: Rehearsals) -> None:
    run_id = rehearsals.start("refused")
    state, tasks = rehearsals.end("refused", run_id)
    assert state == "failed"
    assert tasks["StatisticsGen"] == ("failed", 1)
    assert tasks["Trainer"][0] == tasks["Pusher"][0] == "upstream_failed"
    assert tasks["SchemaGen"] == ("success", 1)
    assert tasks["finish"] == ("failed", 1)
    assert "finish-run says 3" in rehearsals.airflow.log(rehearsals.name("refused"), run_id, "finish", 1)


def test_a_wrong_config_is_not_tried_again(rehearsals: Rehearsals) -> None:
    state, tasks = rehearsals.end("wrong", rehearsals.start("wrong"))
    assert state == "failed"
    assert tasks["prepare"] == tasks["finish"] == ("failed", 1)
    assert tasks["ExampleGen"][0] == "upstream_failed"


def test_overrides_may_drop_stages_and_not_add_any(rehearsals: Rehearsals) -> None:
    smaller, larger = rehearsals.start("smaller"), rehearsals.start("larger")
    state, tasks = rehearsals.end("smaller", smaller)
    assert (state, tasks["Tuner"][0], tasks["Trainer"]) == ("success", "skipped", ("success", 1))
    state, tasks = rehearsals.end("larger", larger)
    assert (state, tasks["prepare"]) == ("failed", ("failed", 1))
    assert "compile it with the same --set" in rehearsals.airflow.log(rehearsals.name("larger"), larger, "prepare")


def test_a_killed_task_is_retried_and_its_process_is_gone(rehearsals: Rehearsals) -> None:
    run_id = rehearsals.start("killed")
    (first,) = wait_for("ExampleGen", lambda: rehearsals.starts("killed", "ExampleGen"), RUN_SECONDS)
    os.kill(first["pid"], signal.SIGKILL)  # the stage's process
    (second,) = wait_for("Trainer", lambda: rehearsals.starts("killed", "Trainer"), RUN_SECONDS)
    os.kill(parent(second["pid"]), signal.SIGKILL)  # Airflow's process of the task
    state, tasks = rehearsals.end("killed", run_id)
    assert (state, tasks["ExampleGen"], tasks["Trainer"]) == ("success", ("success", 2), ("success", 2))
    assert not any(Path(f"/proc/{start['pid']}").exists() for start in (first, second))


def test_a_task_that_hangs_is_ended_after_its_time(rehearsals: Rehearsals) -> None:
    state, tasks = rehearsals.end("hanging", rehearsals.start("hanging"))
    assert (state, tasks["ExampleGen"]) == ("failed", ("failed", 1))
    (hung,) = rehearsals.starts("hanging", "ExampleGen")
    assert not Path(f"/proc/{hung['pid']}").exists()


def test_new_data_starts_a_run(rehearsals: Rehearsals) -> None:
    name, watcher = rehearsals.name("watching"), rehearsals.name("watching") + "_watch"
    rehearsals.airflow.wait_for_dag(watcher)
    logical_date = {"logical_date": None} if rehearsals.airflow.version == "3" else {}
    before = rehearsals.airflow.run_ids(name)
    rehearsals.airflow.api().post(f"dags/{watcher}/dagRuns", {"conf": {}, **logical_date})
    ids = wait_for("a run for the new data", lambda: rehearsals.airflow.run_ids(name)[len(before) :], RUN_SECONDS)
    assert rehearsals.end("watching", ids[0])[0] == "success"
    assert rehearsals.starts("watching", "due")


def test_submit_says_what_is_wrong(rehearsals: Rehearsals) -> None:
    here, name = rehearsals.airflow, rehearsals.name("steady")
    known, guest = config(name, f"airflow.url={here.url}"), {"AIRFLOW_USER": "guest", "AIRFLOW_PASSWORD": "visitor"}
    wrong = {"AIRFLOW_USER": "admin", "AIRFLOW_PASSWORD": "wrong"}
    with pytest.raises(ConfigError, match=r"has no DAG unheard-of; run `slipway compile"):
        submit(config("unheard-of", f"airflow.url={here.url}"), environment=ADMIN)
    with pytest.raises(ConfigError, match=r"asks for credentials \(40[13]\) and there are none"):
        submit(known, environment={})
    with pytest.raises(ConfigError, match="401" if here.version == "3" else "403.*a wrong password"):
        submit(known, environment=wrong)
    with pytest.raises(ConfigError, match="403"):
        submit(known, environment=guest)
    with pytest.raises(ConfigError, match="span"):
        submit(known, span=-1, environment=ADMIN)
    here.pause(name, True)
    with pytest.raises(ConfigError, match=f"is paused, so a run would wait: `airflow dags unpause {name}`"):
        submit(known, environment=ADMIN)
    here.pause(name, False)


class Digits:
    """The DAG of the digits on one Airflow, and its work directory."""

    def __init__(self, airflow: Installation, folder: Path):
        self.airflow = airflow
        self.name = f"digits-{airflow.version}"
        self.workdir = WorkDir(folder / self.name)
        overrides = (f"name={self.name}", f"airflow.url={airflow.url}", "airflow.retry_delay_seconds=1")
        self.loaded = load(ROOT / "configs/digits.yaml", overrides)
        compile_airflow(self.loaded, self.workdir, airflow.dags)
        airflow.wait_for_dag(self.name)

    def submit(self, *overrides: str) -> str:
        """Start a run with overrides as its parameters, and return its id."""
        submit(self.loaded, overrides=[*SHORT, *overrides], environment=ADMIN)
        return self.airflow.run_ids(self.name)[-1]

    def record(self, run_id: str) -> RunRecord:
        return next(record for record in records(self.workdir.records) if record.run_id == run_id)

    def stage_state(self, run_id: str, stage: str) -> str:
        """Return the state of a stage in the record of a run, once there is one."""
        found = [record for record in records(self.workdir.records) if record.run_id == run_id]
        return found[0].stage(stage).state if found else ""

    def kill(self, run_id: str, stage: str) -> None:
        """Kill the process that runs a stage, as the kernel does when memory is short."""
        wait_for(stage, lambda: self.stage_state(run_id, stage) == RUNNING, RUN_SECONDS)
        for place in Path("/proc").glob("[0-9]*"):
            words = read(place / "cmdline").split(b"\0")
            if b"run-node" in words and stage.encode() in words and run_id.encode() in words:
                os.kill(int(place.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def digits(airflow: Installation, tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return Digits(airflow, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The record of a local run of the same config."""
    workdir = WorkDir(tmp_path_factory.mktemp("local"))
    overrides = [word for override in SHORT for word in ("--set", override)]
    command = [sys.executable, "-m", "pipeline", "run", str(ROOT / "configs/digits.yaml"), "-w", str(workdir.root)]
    done = subprocess.run([*command, *overrides], cwd=ROOT, capture_output=True, timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    return next(records(workdir.records))


def test_the_whole_pipeline_as_by_a_local_run_though_the_training_is_killed(digits: Digits, local: RunRecord) -> None:
    run_id = digits.submit()
    digits.kill(run_id, "Trainer")
    assert digits.airflow.wait_for_run(digits.name, run_id) == "success"
    tasks = digits.airflow.tasks(digits.name, run_id)
    assert {task["state"] for task in tasks.values()} == {"success"}
    assert {name for name, task in tasks.items() if int(task["try_number"]) > 1} == {"Trainer"}
    record = digits.record(run_id)
    assert (
        {stage.id for stage in record.stages}
        == {stage.id for stage in local.stages}
        == tasks.keys() - {"prepare", "finish"}
    )
    assert {stage.state for stage in record.stages} <= {RAN, RESOLVED}
    assert figures(record) == figures(local)
    assert (record.state, record.version) == ("succeeded", 1)
    for folder in (record.served, record.bundle, record.forms):
        assert Path(folder).is_relative_to(digits.workdir.root) and any(Path(folder).iterdir())
    assert side_by_side(tasks), {name: (task["start_date"], task["end_date"]) for name, task in tasks.items()}


def test_the_next_run_takes_all_from_the_cache_up_to_a_gate_that_refuses(digits: Digits) -> None:
    if digits.airflow.version == "2":
        pytest.skip("the same program and work directory as on Airflow 3, and each run costs minutes")
    run_id = digits.submit("evaluate.gates.accuracy.max=0.1", "evaluate.gates.accuracy.min=null")
    assert digits.airflow.wait_for_run(digits.name, run_id) == "failed"
    record = digits.record(run_id)
    states = {stage.id: stage.state for stage in record.stages}
    before = ("ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "Tuner", "Trainer")
    assert {states[stage] for stage in (*before, "InfraValidator")} == {HIT}
    assert (states["Evaluator"], record.state, record.version) == (RAN, "refused", None)
    tasks = digits.airflow.tasks(digits.name, run_id)
    assert {name for name, task in tasks.items() if task["state"] != "success"} == {"finish"}
    assert int(tasks["finish"]["try_number"]) == 1
    refusal = next(verdict["sentence"] for verdict in record.verdicts if not verdict["passed"])
    assert refusal in digits.airflow.log(digits.name, run_id, "finish")


def figures(record: RunRecord) -> dict[str, Any]:
    """Return what a run measured: of the data, the search, the training and the evaluation."""
    stages = ("ExampleGen", "Tuner", "Trainer", "Evaluator")
    judged = [verdict["checks"] for verdict in record.verdicts if verdict["gate"] == "Evaluator"]
    return {"checks": judged, **{name: record.stage(name).detail for name in stages}}


def side_by_side(tasks: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the pairs of tasks that ran at the same time."""
    times = {name: (task["start_date"], task["end_date"]) for name, task in tasks.items()}
    return [
        (first, second)
        for first, second in itertools.combinations(times, 2)
        if times[first][0] < times[second][1] and times[second][0] < times[first][1]
    ]


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def parent(pid: int) -> int:
    """Return the process that started another one."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[1])
