"""An Airflow DAG of a pipeline that was compiled by `slipway compile --target airflow`.

Comes in: the JSON file of the same name beside this one. Goes out: a DAG with one task per stage, and a second one
that looks for new data where the config asks for it. Airflow 2.11 and 3 read the same file; it imports nothing but
Airflow, and the stages run in the pipeline's own environment, as processes. Don't edit it: compile again.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
from datetime import datetime, timedelta, timezone

try:
    from airflow.sdk import DAG, Asset, BaseOperator, Param, TaskGroup
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
    from airflow.models.baseoperator import BaseOperator
    from airflow.models.param import Param
    from airflow.utils.task_group import TaskGroup

HERE = pathlib.Path(__file__)
SPEC = json.loads(HERE.with_suffix(".json").read_text(encoding="utf-8"))

SKIPPED = 99
FINAL = (2, 3)
"""Exit codes after which another try would end the same way: a wrong config, a gate that refused."""

PARAMS = {
    "span": Param(
        None, type=["null", "integer"], minimum=0, title="Span", description="the span to take; empty: the newest"
    ),
    "set": Param(
        [],
        type="array",
        items={"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)+=.*$"},
        title="Overrides",
        description="values of the config for this run, one per line, such as train.epochs=3",
    ),
}


class SlipwayOperator(BaseOperator):
    """Runs one command of the pipeline's own environment, shows what it prints, and tells its exit codes apart."""

    ui_color = "#e3edf7"

    def __init__(self, *, words=(), final=FINAL, **kwargs):
        """Initialize.

        Args:
            words: the command after `slipway`.
            final: exit codes after which there is no retry.
            **kwargs: of Airflow's operators.
        """
        super().__init__(**kwargs)
        self.words = list(words)
        self.final = tuple(final)
        self.process = None

    def command(self, context):
        """Return the words of the command; the subclasses add what only a run knows."""
        return self.words

    def execute(self, context):
        """Run the command; returns the last line that it printed."""
        code, line = self.run_process([*SPEC["command"], *self.command(context)])
        if code == SKIPPED:
            raise AirflowSkipException(line)
        if code in self.final:
            raise AirflowFailException(line)
        if code:
            raise AirflowException(f"exit code {code}: {line}")
        return line

    def run_process(self, argv):
        """Run a command to its end with its output in the task's log; returns exit code and last line."""
        dropped = ("AIRFLOW", "_AIRFLOW", "PYTHON", "VIRTUAL_ENV", "__AIRFLOW")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        environment.update(SPEC["environment"], PYTHONUNBUFFERED="1")
        # A task that is killed takes its process with it: its retry must not meet it.
        guard = shutil.which("setpriv")
        guarded = [guard, "--pdeathsig", "KILL", "--", *argv] if guard else argv
        self.log.info("running %s", " ".join(argv))
        self.process = subprocess.Popen(
            guarded,
            cwd=SPEC["folder"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # What the command has started and left would keep the output open, and the task waiting.
        threading.Thread(target=end_with, args=(self.process,), daemon=True).start()
        last = ""
        for raw in self.process.stdout or ():
            line = raw.decode("utf-8", "replace").rstrip()
            if line:
                last = line
                self.log.info("%s", line)
        return self.process.wait(), last

    def on_kill(self):
        """End the process and its children: the task timed out, or somebody stopped it."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(self.process.pid, signal.SIGKILL)


def end_with(process):
    """Wait for the end of a process, and end what is left of its group."""
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class PrepareOperator(SlipwayOperator):
    """Fixes what the run is made of: config, overrides, data. Hands on the folder of the plan."""

    def command(self, context):
        """Add the run's id and parameters."""
        words = [*self.words, "--run-id", context["run_id"]]
        for override in context["params"]["set"]:
            words += ["--set", override]
        if context["params"]["span"] is not None:
            words += ["--span", str(context["params"]["span"])]
        return words

    def execute(self, context):
        """Prepare the run; returns the plan's folder."""
        plan = os.path.dirname(super().execute(context))
        added = [node for node in plan_nodes(plan) if node not in SPEC_NODES]
        if added:
            raise AirflowFailException(
                f"the overrides add the stages {', '.join(added)}, which have no task in this DAG; compile it with "
                "the same --set, or leave the overrides out"
            )
        return plan


class NodeOperator(SlipwayOperator):
    """Runs one stage of the plan; a stage that the run's overrides left out is skipped."""

    def command(self, context):
        """Add the plan and the run's id."""
        plan = context["ti"].xcom_pull(task_ids="prepare")
        if self.task_id not in plan_nodes(plan):
            raise AirflowSkipException(f"this run's overrides leave {self.task_id} out")
        return [*self.words, "--ir", os.path.join(plan, "ir.json"), "--run-id", context["run_id"]]


class FinishOperator(SlipwayOperator):
    """Closes the run's record; fails with the sentence of the gate that refused, or of the stage that failed."""

    ui_color = "#dff0d8"

    def command(self, context):
        """Add the run's id."""
        return [*self.words, "--run-id", context["run_id"]]


SPEC_NODES = {task["id"]: task for group in SPEC["groups"] for task in group["tasks"]}


def plan_nodes(plan):
    """Return the ids of the stages of a prepared run."""
    with open(os.path.join(plan, "dag.json"), encoding="utf-8") as file:
        return [node["id"] for node in json.load(file)["nodes"]]


def schedule(asset):
    """Return when the DAG runs: by the clock, by new data, by both, or only when triggered."""
    if asset is None:
        return SPEC["schedule"]
    if SPEC["schedule"] is None:
        return [asset]
    try:
        from airflow.timetables.assets import AssetOrTimeSchedule
        from airflow.timetables.trigger import CronTriggerTimetable

        return AssetOrTimeSchedule(timetable=CronTriggerTimetable(SPEC["schedule"], timezone="UTC"), assets=[asset])
    except ImportError:  # Airflow 2
        from airflow.timetables.datasets import DatasetOrTimeSchedule

        clock = CronTriggerTimetable(SPEC["schedule"], timezone="UTC")
        return DatasetOrTimeSchedule(timetable=clock, datasets=[asset])


def options(task):
    """Return the keyword arguments of an operator; what is unset is Airflow's default."""
    given = {
        "execution_timeout": timedelta(minutes=task["timeout_minutes"]),
        "retries": task["retries"],
        "pool": task["pool"],
        "pool_slots": task["pool_slots"],
        "queue": task["queue"],
    }
    return {
        "task_id": task["id"],
        "doc_md": task["doc"],
        "retry_delay": timedelta(seconds=SPEC["retry_delay_seconds"]),
        "owner": SPEC["owner"],
        **{name: value for name, value in given.items() if value is not None},
    }


def common():
    """Return what both DAGs have in common."""
    return {
        "start_date": datetime(2024, 1, 1, tzinfo=timezone.utc),
        "catchup": False,
        "max_active_runs": 1,
        "tags": SPEC["tags"],
        "doc_md": SPEC["doc"],
    }


def pipeline_dag(asset):
    """Return the DAG of the pipeline: prepare, the stages in groups, finish."""
    place = ["--workdir", SPEC["workdir"]]
    config = str(HERE.with_name(SPEC["config"]))
    with DAG(
        SPEC["dag_id"],
        description=SPEC["description"],
        schedule=schedule(asset),
        max_active_tasks=SPEC["parallelism"],
        params=PARAMS,
        **common(),
    ) as dag:
        prepare = PrepareOperator(words=["prepare-run", config, *place], **options(SPEC["prepare"]))
        finish = FinishOperator(
            words=["finish-run", *place], final=(1, *FINAL), trigger_rule="all_done", **options(SPEC["finish"])
        )
        tasks = {}
        for group in SPEC["groups"]:
            with TaskGroup(group["id"], prefix_group_id=False, tooltip=group["doc"]):
                for task in group["tasks"]:
                    # None failed: behind a stage that was left out, the others still run.
                    tasks[task["id"]] = NodeOperator(
                        words=["run-node", task["id"]], trigger_rule="none_failed", do_xcom_push=False, **options(task)
                    )
        for name, task in tasks.items():
            upstream = [tasks[other] for other in SPEC_NODES[name]["upstream"]]
            task.set_upstream(upstream or [prepare])
            task.set_downstream(finish)
        prepare.set_downstream(finish)
    return dag


def watch_dag(asset):
    """Return the DAG that looks for new data, and says so by updating the asset."""
    with DAG(
        SPEC["dag_id"] + "_watch",
        description=f"Starts {SPEC['dag_id']} when there is new data.",
        schedule=SPEC["watch"],
        **common(),
    ) as dag:
        SlipwayOperator(
            words=["due", str(HERE.with_name(SPEC["config"])), "--workdir", SPEC["workdir"]],
            outlets=[asset],
            do_xcom_push=False,
            **options(SPEC["look"]),
        )
    return dag


new_data = Asset(SPEC["asset"]) if SPEC["watch"] else None
pipeline = pipeline_dag(new_data)
watcher = watch_dag(new_data) if new_data is not None else None
