"""What `compile_airflow` writes, and that the DAG's program needs nothing but Airflow."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from pipeline.cli.running import STAGES
from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.runners.airflow import compiling
from pipeline.runners.airflow.compiling import DAG_FILE, compile_airflow, dag_spec
from pipeline.runners.airflow.stages import DOCS, GROUPS, group_of
from pipeline.workdir import WorkDir

CONFIG = Path(__file__).resolve().parents[4] / "configs/digits.yaml"
GRAPH = {"ExampleGen": [], "Trainer": ["ExampleGen"], "Pusher": ["Trainer"]}


def spec(*overrides: str, graph=GRAPH) -> dict:
    return dag_spec(load(CONFIG, overrides).config, graph, WorkDir(Path("/somewhere/work")))


def tasks(made: dict) -> dict[str, dict]:
    return {task["id"]: task for group in made["groups"] for task in group["tasks"]}


def test_the_program_imports_airflow_and_the_standard_library_alone() -> None:
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(DAG_FILE.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    rooms = {str(name).partition(".")[0] for name in names}
    assert rooms - sys.stdlib_module_names == {"airflow"}


def test_every_stage_has_help_and_a_group() -> None:
    assert not [stage for stage in STAGES if not DOCS.get(stage)]
    assert {group_of(stage) for stage in STAGES} == set(GROUPS)


def test_groups_stand_in_the_order_of_the_pipeline() -> None:
    assert [group["id"] for group in spec()["groups"]] == ["data", "train", "ship"]
    assert tasks(spec())["Trainer"]["upstream"] == ["ExampleGen"]


def test_settings_of_a_stage_come_before_those_of_all() -> None:
    own = "airflow.stages={Trainer: {retries: 0, pool: gpu, pool_slots: 2, timeout_minutes: 30, queue: big}}"
    made = tasks(spec(own, "airflow.pool=all", "airflow.retries=4"))
    assert made["Trainer"] | {"doc": "", "upstream": []} == {
        "id": "Trainer", "doc": "", "timeout_minutes": 30, "retries": 0, "pool": "gpu", "pool_slots": 2,
        "queue": "big", "upstream": [],
    }  # fmt: skip
    assert (made["Pusher"]["retries"], made["Pusher"]["pool"], made["Pusher"]["queue"]) == (4, "all", None)
    assert made["Trainer"]["timeout_minutes"] < tasks(spec())["Trainer"]["timeout_minutes"]


def test_a_stage_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"airflow\.stages\.Traner: .* did you mean Trainer\?"):
        spec("airflow.stages={Traner: {retries: 1}}")


@pytest.mark.parametrize("value", ["'@often'", "'0 25 * * *'", "every day"])
def test_a_schedule_that_airflow_would_not_understand_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"airflow\.schedule"):
        load(CONFIG, [f"airflow.schedule={value}"])


@pytest.mark.parametrize("value", ["'@daily'", "'0 3 * * 1-5'", "'*/10 * * * *'"])
def test_schedules_go_into_the_dag(value: str) -> None:
    made = spec(f"airflow.schedule={value}", f"airflow.watch={value}")
    assert made["schedule"] == made["watch"] == value.strip("'")


def test_three_files_whose_bytes_depend_on_the_config_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "graph_of", lambda config: GRAPH)
    loaded, workdir = load(CONFIG), WorkDir(Path("/somewhere/work"))
    files = compile_airflow(loaded, workdir, tmp_path / "dags")
    assert [file.name for file in files] == ["digits_dag.py", "digits_dag.json", "digits_config.json"]
    again = compile_airflow(loaded, workdir, tmp_path / "again")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    assert load(files[2]).config == loaded.config
    assert json.loads(files[1].read_text(encoding="utf-8"))["config"] == "digits_config.json"
    assert sorted(file.name for file in (tmp_path / "dags").iterdir()) == sorted(file.name for file in files)


def test_a_folder_that_can_not_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "graph_of", lambda config: GRAPH)
    (tmp_path / "dags").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"can't be written: .*; choose another folder with --out"):
        compile_airflow(load(CONFIG), WorkDir(tmp_path), tmp_path / "dags")


@pytest.mark.slow
def test_the_graph_is_that_of_the_pipeline_and_reads_no_data(tmp_path: Path) -> None:
    loaded = load(CONFIG, [f"data.source={tmp_path}", "train.warm_start=true"])
    graph = compiling.graph_of(loaded.config)
    assert set(STAGES) == set(graph)
    assert "ExampleValidator" in graph["Transform"]
    order = list(graph)
    assert all(order.index(other) < order.index(node) for node, others in graph.items() for other in others)
    smaller = compiling.graph_of(load(CONFIG, ["tune.mode=off", "compress.variants=[]"]).config)
    assert set(graph) - set(smaller) == {"Tuner", "BaseModel", "Optimizer", "EdgePusher", "FormPusher"}
