"""DAGs whose stages follow scripts, for tests of the DAG's program on a real Airflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.config.loading import LoadedConfig, load
from pipeline.runners.airflow import submit
from pipeline.runners.airflow.compiling import DAG_FILE, dag_spec
from pipeline.workdir import WorkDir
from tests.pipeline.runners.airflow.installation import ROOT, USERS, Installation

REHEARSAL = Path(__file__).with_name("rehearsal.py")
GRAPH = {
    "ExampleGen": [],
    "StatisticsGen": ["ExampleGen"],
    "SchemaGen": ["ExampleGen"],
    "Tuner": ["SchemaGen"],
    "Trainer": ["StatisticsGen", "Tuner"],
    "Pusher": ["Trainer"],
}
ADMIN = {"AIRFLOW_USER": "admin", "AIRFLOW_PASSWORD": USERS["admin"]}


def config(name: str, *overrides: str) -> LoadedConfig:
    quick = ["airflow.retry_delay_seconds=1", "airflow.parallelism=3"]
    return load(ROOT / "configs/digits.yaml", [f"name={name}", *quick, *overrides])


class Rehearsals:
    """DAGs with stages that follow scripts, and the runs of them on one Airflow."""

    def __init__(self, airflow: Installation, folder: Path):
        self.airflow = airflow
        self._folder = folder

    def write(self, name: str, script: dict, *overrides: str, timeout: float | None = None) -> None:
        """Write a DAG."""
        name = self.name(name)
        spec = dag_spec(config(name, *overrides).config, GRAPH, WorkDir(self.workdir(name)))
        file = self._folder / f"{name}.script.json"
        file.write_text(json.dumps({"plan": list(GRAPH), **script}), encoding="utf-8")
        spec["command"] = [sys.executable, str(REHEARSAL), str(file)]
        if timeout is not None:
            for task in (task for group in spec["groups"] for task in group["tasks"]):
                task["timeout_minutes"] = timeout
        (self.airflow.dags / f"{name}_dag.json").write_text(json.dumps(spec), encoding="utf-8")
        (self.airflow.dags / f"{name}_dag.py").write_text(DAG_FILE.read_text(encoding="utf-8"), encoding="utf-8")

    def name(self, name: str) -> str:
        return f"{name}-{self.airflow.version}"

    def workdir(self, name: str) -> Path:
        return self._folder / f"{name}.work"

    def start(self, name: str, span: int | None = None, overrides: tuple[str, ...] = ()) -> str:
        """Submit a run of a DAG, once Airflow has found it, and return the run's id."""
        name = self.name(name)
        self.airflow.wait_for_dag(name)
        submit(config(name, f"airflow.url={self.airflow.url}"), span, overrides, ADMIN)
        return self.airflow.run_ids(name)[-1]

    def end(self, name: str, run_id: str) -> tuple[str, dict[str, tuple[str, int]]]:
        """Wait for the end of a run; returns its state, and of each task the state and the number of tries."""
        state = self.airflow.wait_for_run(self.name(name), run_id)
        tasks = self.airflow.tasks(self.name(name), run_id)
        return state, {task: (str(found["state"]), int(found["try_number"])) for task, found in tasks.items()}

    def starts(self, name: str, what: str) -> list[dict]:
        """Return what is known of each start of a command or stage."""
        file = self.workdir(self.name(name)) / "starts"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [start for start in map(json.loads, lines) if start["name"] == what]
