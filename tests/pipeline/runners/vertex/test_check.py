"""Every fault that Google's and Kubeflow's own libraries let pass is found, and says where it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError
from pipeline.runners.vertex.check import check, spec_errors

Change = Callable[[dict[str, Any]], Any]


def tasks(job: dict[str, Any]) -> dict[str, Any]:
    return job["pipelineSpec"]["root"]["dag"]["tasks"]


def executors(job: dict[str, Any]) -> dict[str, Any]:
    return job["pipelineSpec"]["deploymentSpec"]["executors"]


def put(path: str, value: Any) -> Change:
    """Return a change that puts a value at a path of keys, separated by spaces."""

    def change(job: dict[str, Any]) -> None:
        *keys, last = path.split()
        place: Any = job
        for key in keys:
            place = place[key]
        place[last] = value

    return change


TASKS = "pipelineSpec root dag tasks"
EXECUTORS = "pipelineSpec deploymentSpec executors"
FAULTS: dict[str, tuple[Change, str]] = {
    "component": (lambda job: job["pipelineSpec"]["components"].pop("judge"), "judge: there is no component"),
    "executor": (lambda job: executors(job).pop("e_judge"), "judge: there is no executor"),
    "dependency": (put(f"{TASKS} tell dependentTasks", ["gone"]), "tell: it waits for 'gone'"),
    "producer": (
        put(f"{TASKS} push inputs artifacts blessing taskOutputArtifact producerTask", "gone"),
        "push: its input 'blessing' is gone.blessing",
    ),
    "output": (
        put(f"{TASKS} push inputs artifacts blessing taskOutputArtifact outputArtifactKey", "other"),
        "isn't made",
    ),
    "type": (
        put(
            f"{TASKS} push inputs artifacts blessing taskOutputArtifact",
            {"producerTask": "train", "outputArtifactKey": "model"},
        ),
        "of type tfx.Model; expected tfx.ModelBlessing",
    ),
    "missing input": (lambda job: tasks(job)["push"]["inputs"].pop("artifacts"), "nothing gives it the input"),
    "unknown input": (
        put(
            f"{TASKS} tell inputs",
            {"artifacts": {"x": {"taskOutputArtifact": {"producerTask": "train", "outputArtifactKey": "model"}}}},
        ),
        "tell: its component has no input 'x'",
    ),
    "missing parameter": (
        lambda job: tasks(job)["train"]["inputs"]["parameters"].pop("folder"),
        "nothing gives it the parameter 'folder'",
    ),
    "unknown parameter": (
        put(f"{TASKS} train inputs parameters color", {"runtimeValue": {"constant": "red"}}),
        "no parameter 'color'",
    ),
    "parameter of another type": (
        put(f"{TASKS} train inputs parameters folder", {"runtimeValue": {"constant": 5}}),
        "expected STRING",
    ),
    "fraction for a whole number": (
        put(f"{TASKS} train inputs parameters span", {"runtimeValue": {"constant": 1.5}}),
        "expected NUMBER_INTEGER",
    ),
    "parameter without a value": (put(f"{TASKS} train inputs parameters folder", {"runtimeValue": {}}), "no value"),
    "parameter of the run": (
        put(f"{TASKS} train inputs parameters span", {"componentInputParameter": "gone"}),
        "'gone', which isn't declared",
    ),
    "parameter of a task": (
        put(f"{TASKS} judge inputs parameters number taskOutputParameter outputParameterKey", "gone"),
        "train.gone, which isn't made",
    ),
    "circle": (put(f"{TASKS} import dependentTasks", ["tell"]), "wait for each other"),
    "schema version": (put("pipelineSpec schemaVersion", "9.9"), "schemaVersion is '9.9'"),
    "unknown key": (put("pipelineSpec nonsense", 1), "isn't in the format"),
    "unknown key of an executor": (put(f"{EXECUTORS} e_push container speed", 1), "isn't in the format"),
    "name": (put("pipelineSpec pipelineInfo name", "Upper_Case"), "its name is 'Upper_Case'"),
    "no tasks": (put("pipelineSpec root dag tasks", {}), "no tasks"),
    "root": (put("runtimeConfig gcsOutputDirectory", "/local/folder"), "its root is '/local/folder'"),
    "label": (put("labels", {"team": "x" * 64}), "at most 63"),
    "image": (put(f"{EXECUTORS} e_push container image", "not an image"), "push: its image is 'not an image'"),
    "no image": (put(f"{EXECUTORS} e_push container image", ""), "push: its image is ''"),
    "command": (put(f"{EXECUTORS} e_push container command", []), "no command"),
    "executor class": (
        put(f"{EXECUTORS} e_push container args", ["--executor_class_path", "pipeline.components.pusher.Nobody"]),
        "there is no such class",
    ),
    "accelerator": (
        put(f"{EXECUTORS} e_push container resources", {"accelerator": {"type": "NVIDIA_TESLA_T4"}}),
        "expected a type and a count",
    ),
    "condition": (put(f"{TASKS} push triggerPolicy condition", "1 +"), "can't be read"),
    "condition on nothing": (
        put(f"{TASKS} push triggerPolicy condition", "(inputs.artifacts['gone'].artifacts[0].uri == 'x')"),
        "asks for the input 'gone'",
    ),
}


def test_a_sound_specification_has_no_faults(job: dict[str, Any]) -> None:
    assert spec_errors(job) == []


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_is_found(job: dict[str, Any], name: str) -> None:
    change, expected = FAULTS[name]
    change(job)
    assert any(expected in fault for fault in spec_errors(job)), spec_errors(job)


def test_all_faults_are_told_at_once(job: dict[str, Any]) -> None:
    for name in ("dependency", "image", "parameter of another type"):
        FAULTS[name][0](job)
    with pytest.raises(ConfigError) as caught:
        check(job)
    assert len(caught.value.problems) == 3


def test_a_folder_of_this_machine_is_found(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound = copy.deepcopy(job)
    put(f"{TASKS} train inputs parameters folder", {"runtimeValue": {"constant": f"{tmp_path}-elsewhere/x"}})(sound)
    assert spec_errors(sound) == []
    leaking = {"runtimeValue": {"constant": f'{{"resume": "{tmp_path}/unfinished"}}'}}
    put(f"{TASKS} train inputs parameters folder", leaking)(job)
    assert any("a folder of this machine" in fault for fault in spec_errors(job))


@pytest.mark.parametrize(
    ("dotted", "sound"),
    [("trainer.run.run_fn", True), ("trainer.run.run_fm", False), ("trainer.gone.run_fn", False), ("run_fn", False)],
)
def test_a_function_that_containers_call_must_exist(job: dict[str, Any], dotted: str, sound: bool) -> None:
    definition = job["pipelineSpec"]["components"]["train"]["inputDefinitions"]["parameters"]
    definition["run_fn"] = {"parameterType": "STRING"}
    put(f"{TASKS} train inputs parameters run_fn", {"runtimeValue": {"constant": dotted}})(job)
    assert (spec_errors(job) == []) is sound
