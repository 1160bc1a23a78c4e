"""The rehearsal on a small specification: order, arguments, resolver, importer, condition, parameters, failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import ConfigError
from pipeline.runners.vertex.rehearsal import Rehearsal, rehearse_file


def rehearse(job: dict[str, Any], place: Path, **options: Any) -> Rehearsal:
    path = place / "small.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return rehearse_file(path, place / "rehearsal", **options)


def call_of(rehearsal: Rehearsal, task: str, key: str, number: int = 1) -> dict[str, Any]:
    path = rehearsal.folder / f"gcs/bucket/small/0/small/{task}_{number}/{key}/call.json"
    return json.loads(path.read_text(encoding="utf-8"))


def parameters_of(job: dict[str, Any], task: str) -> dict[str, Any]:
    """Return a task's parameters, to which a test adds one that its container obeys."""
    spec = job["pipelineSpec"]
    spec["components"][task].setdefault("inputDefinitions", {}).setdefault("parameters", {})
    given = spec["root"]["dag"]["tasks"][task].setdefault("inputs", {}).setdefault("parameters", {})
    return given


def tell(job: dict[str, Any], task: str, what: str) -> None:
    parameters_of(job, task)[what] = {"runtimeValue": {"constant": "yes"}}
    job["pipelineSpec"]["components"][task]["inputDefinitions"]["parameters"][what] = {"parameterType": "STRING"}


def test_every_task_runs_with_what_the_service_would_pass(job: dict[str, Any], stage: Path) -> None:
    rehearsal = rehearse(job, stage)
    assert rehearsal.ok, rehearsal.table()
    states = {task.name: task.state for task in rehearsal.tasks}
    assert states == {
        "import": "imported", "latest": "resolved", "train": "ran", "judge": "ran", "push": "ran", "tell": "ran",
    }  # fmt: skip
    train = call_of(rehearsal, "train", "model")
    assert train["call"]["inputs"]["parameterValues"] == {"folder": f"{rehearsal.folder}/gcs/bucket/served", "span": 3}
    assert train["call"]["inputs"]["artifacts"]["base"]["artifacts"][0]["uri"] == "gs://bucket/old"
    assert train["arguments"] == [f"--folder={rehearsal.folder}/gcs/bucket/served"]
    judge = call_of(rehearsal, "judge", "blessing")
    assert judge["call"]["inputs"]["parameterValues"] == {"number": 7}
    assert judge["arguments"] == ["gs://bucket/small/0/small/train_1/model"]


def test_a_second_rehearsal_takes_from_the_cache_and_resolves(job: dict[str, Any], stage: Path) -> None:
    assert "blessing: none" in rehearse(job, stage).table()
    again = rehearse(job, stage)
    assert again.state("train") == "cached" and again.state("judge") == "ran"
    assert "blessing: gs://bucket/small/0/small/judge_1/blessing" in again.table()
    changed = rehearse(job, stage, parameters={"span": 4})
    assert changed.state("train") == "ran"
    assert call_of(changed, "train", "model", 3)["call"]["inputs"]["parameterValues"]["span"] == 4


def test_a_false_condition_skips_the_task_and_what_follows(
    job: dict[str, Any], stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLESSED", "0")
    rehearsal = rehearse(job, stage)
    assert rehearsal.ok
    assert (rehearsal.state("push"), rehearsal.state("tell")) == ("skipped", "skipped")
    assert "push was skipped" in rehearsal.table()


@pytest.mark.parametrize(
    ("what", "state", "sentence"),
    [
        ("fail", "failed", "it was told to fail"),
        ("refuse", "refused", "it was told to refuse"),
        ("silent", "failed", "wrote nothing about its outputs"),
    ],
)
def test_after_a_failure_nothing_is_reached(
    job: dict[str, Any], stage: Path, what: str, state: str, sentence: str
) -> None:
    tell(job, "judge", what)
    rehearsal = rehearse(job, stage)
    assert not rehearsal.ok
    assert rehearsal.state("judge") == state
    assert sentence in rehearsal.table()
    assert rehearsal.state("push") == "not reached"
    assert rehearse(job, stage).state("train") == "cached"  # what was done before stays done


def test_a_container_that_hangs_is_ended(job: dict[str, Any], stage: Path) -> None:
    tell(job, "train", "hang")
    rehearsal = rehearse(job, stage, timeout_seconds=3)
    assert rehearsal.state("train") == "failed"
    assert "more than 3 seconds" in rehearsal.table()


def test_version_2_0_gets_its_own_form_of_values(job: dict[str, Any], stage: Path) -> None:
    text = json.dumps(job).replace('{"constant": "/gcs/', '{"constantValue": "/gcs/')
    old = json.loads(text)
    old["pipelineSpec"]["schemaVersion"] = "2.0.0"
    old["runtimeConfig"] = {"gcsOutputDirectory": "gs://bucket/small", "parameters": {"span": {"intValue": "3"}}}
    folder = old["pipelineSpec"]["root"]["dag"]["tasks"]["train"]["inputs"]["parameters"]["folder"]["runtimeValue"]
    folder["constantValue"] = {"stringValue": folder["constantValue"]}
    rehearsal = rehearse(old, stage)
    assert rehearsal.ok, rehearsal.table()
    given = call_of(rehearsal, "train", "model")["call"]["inputs"]["parameters"]
    assert given == {"folder": {"stringValue": f"{rehearsal.folder}/gcs/bucket/served"}, "span": {"intValue": "3"}}


def test_parameters_of_the_run_are_checked(job: dict[str, Any], stage: Path) -> None:
    with pytest.raises(ConfigError, match=r"no parameter color; its parameters: span"):
        rehearse(job, stage, parameters={"color": "red"})
    del job["runtimeConfig"]["parameterValues"]
    with pytest.raises(ConfigError, match="span have no value"):
        rehearse(job, stage)


def test_an_importer_takes_its_uri_from_the_run(job: dict[str, Any], stage: Path) -> None:
    spec = job["pipelineSpec"]
    spec["root"]["inputDefinitions"]["parameters"]["uri"] = {"parameterType": "STRING", "defaultValue": "gs://bucket/d"}
    spec["deploymentSpec"]["executors"]["e_import"]["importer"]["artifactUri"] = {"runtimeParameter": "uri"}
    assert "gs://bucket/d" in rehearse(job, stage).table()
    assert "gs://bucket/given" in rehearse(job, stage, parameters={"uri": "gs://bucket/given"}).table()


def test_data_that_lie_elsewhere_here_are_found(job: dict[str, Any], stage: Path) -> None:
    rehearsal = rehearse(job, stage, here={"/gcs/bucket/served": "/somewhere/pictures"})
    given = call_of(rehearsal, "train", "model")["call"]["inputs"]["parameterValues"]["folder"]
    assert given == "/somewhere/pictures"


def test_a_volume_is_a_folder_of_the_rehearsal(job: dict[str, Any], stage: Path) -> None:
    spec = job["pipelineSpec"]
    spec["defaultPipelineRoot"] = "minio://bucket/small"
    spec["root"]["inputDefinitions"]["parameters"]["span"]["defaultValue"] = 3
    folder = spec["root"]["dag"]["tasks"]["train"]["inputs"]["parameters"]["folder"]["runtimeValue"]
    folder["constant"] = "/slipway/small/served"
    mounts = {"e_train": {"pvcMount": [{"constant": "claim", "mountPath": "/slipway"}]}}
    platforms = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": mounts}}}}
    (stage / "small.yaml").write_text(yaml.safe_dump_all([spec, platforms]), encoding="utf-8")
    rehearsal = rehearse_file(stage / "small.yaml", stage / "rehearsal")
    assert rehearsal.ok, rehearsal.table()
    call = json.loads((rehearsal.folder / "minio/bucket/small/0/small/train_1/model/call.json").read_text("utf-8"))
    assert call["arguments"] == [f"--folder={rehearsal.folder}/slipway/small/served"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pipelineSpec": 3}'])
def test_a_file_that_is_no_specification_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"can't be read|is no pipeline"):
        rehearse_file(path, tmp_path / "rehearsal")


def test_a_broken_specification_is_refused_before_anything_runs(job: dict[str, Any], stage: Path) -> None:
    job["pipelineSpec"]["root"]["dag"]["tasks"]["push"]["dependentTasks"] = ["nobody"]
    with pytest.raises(ConfigError, match="nobody"):
        rehearse(job, stage)
    assert not (stage / "rehearsal").exists()
