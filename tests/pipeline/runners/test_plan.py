"""Reading plans that are missing, damaged or not meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.runners.plan import read_plan
from pipeline.workdir import WorkDir

IR = {"pipelineInfo": {"id": "p"}, "nodes": [{"pipelineNode": {"nodeInfo": {"id": "Trainer"}}}]}


@pytest.fixture
def ir(tmp_path) -> Path:
    """Return the IR file of a sound plan of the run `r`."""
    workdir = WorkDir(tmp_path / "work")
    workdir.create()
    config = tmp_path / "p.yaml"
    config.write_text("name: p\ndata: {source: digits}\ntransform: {size: [8, 8]}\n", encoding="utf-8")
    folder = workdir.plans / "r"
    folder.mkdir(parents=True)
    dag = {"format": 1, "pipeline": "p", "run_id": "r", "workdir": str(workdir.root), "nodes": []}
    (folder / "dag.json").write_text(json.dumps(dag), encoding="utf-8")
    (folder / "config.json").write_text(load(config).config.model_dump_json(), encoding="utf-8")
    (folder / "ir.json").write_text(json.dumps(IR), encoding="utf-8")
    return folder / "ir.json"


def test_a_sound_plan_holds_config_and_pipeline(ir):
    plan = read_plan(ir, "r")
    assert plan.config.data.source == "digits"
    assert [node.pipeline_node.node_info.id for node in plan.pipeline.nodes] == ["Trainer"]


def test_the_plan_of_another_run_is_refused(ir):
    with pytest.raises(ConfigError, match=r"received other, but .* is the plan of run r"):
        read_plan(ir, "other")


@pytest.mark.parametrize("name", ["ir.json", "dag.json", "config.json"])
def test_missing_files_are_named(ir, name):
    (ir.parent / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name} can't be read: No such file.*prepare-run"):
        read_plan(ir, "r")


@pytest.mark.parametrize("name", ["ir.json", "dag.json", "config.json"])
@pytest.mark.parametrize("damage", ["half", "empty", "binary", "list", "folder"])
def test_damaged_files_are_named(ir, name, damage):
    path = ir.parent / name
    text = path.read_text(encoding="utf-8")
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        broken = {"half": text[: len(text) // 2].encode(), "empty": b"", "binary": b"\xff\xfe\0", "list": b"[1]"}
        path.write_bytes(broken[damage])
    with pytest.raises(ConfigError, match=rf"{name}.*prepare"):
        read_plan(ir, "r")


@pytest.mark.parametrize("text", ['{"nodes": [], "fieldOfTomorrow": 1}', '{"nodes": [{"pipelineNode": 3}]}', "{}"])
def test_a_pipeline_of_another_version_is_refused(ir, text):
    ir.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"make it again with `slipway prepare-run`"):
        read_plan(ir, "r")


def test_a_dag_of_another_version_is_refused(ir):
    dag = json.loads((ir.parent / "dag.json").read_text(encoding="utf-8"))
    (ir.parent / "dag.json").write_text(json.dumps({**dag, "format": 2}), encoding="utf-8")
    with pytest.raises(ConfigError, match="format 2, expected 1"):
        read_plan(ir, "r")
