"""What our entry point adds to TFX's: several artifacts as one, models by their service's name, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tfx.components.evaluator import constants
from tfx.types import standard_artifacts

from pipeline.components.artifacts import ModelVariant
from pipeline.runners.vertex import entrypoint
from pipeline.runners.vertex.artifact_types import class_paths, schema, title

NAME = "projects/1/locations/here/metadataStores/default/artifacts/7"


def variant(uri: str, name: str) -> ModelVariant:
    artifact = ModelVariant()
    artifact.uri = uri
    artifact.variant, artifact.form, artifact.status = name, "tflite", "certified"
    return artifact


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"]])
def test_any_number_of_artifacts_travels_as_one(names: list[str]) -> None:
    template = ModelVariant()
    template.uri = "/gcs/bucket/variants"
    several = [variant(f"/gcs/bucket/variants/{name}", name) for name in names]
    whole = entrypoint.collapsed(several, template)
    back = entrypoint.expanded([whole])
    found = [(artifact.uri, artifact.variant, artifact.form, artifact.status) for artifact in back]
    assert found == [(f"/gcs/bucket/variants/{name}", name, "tflite", "certified") for name in names]


def test_one_artifact_that_was_given_stays_as_it_is() -> None:
    template = ModelVariant()
    assert entrypoint.collapsed([template], template) is template
    assert not template.has_custom_property(entrypoint.ITEMS)
    assert entrypoint.expanded([template]) == [template]
    assert entrypoint.expanded([]) == []


def test_a_blessing_names_its_models_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    blessing = standard_artifacts.ModelBlessing()
    number = 2**62 + 12345  # as a number of JSON it would come back as another one
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, number)
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, "/gcs/bucket/model")
    entrypoint.name_models(blessing, {number: NAME})
    assert blessing.get_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY) == NAME
    assert blessing.get_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY) == "gs://bucket/model"
    assert not blessing.has_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY)


def test_our_types_have_a_schema_and_a_class() -> None:
    assert title(ModelVariant) == "slipway.ModelVariant"
    assert class_paths()["slipway.ModelVariant"] == "pipeline.components.artifacts.ModelVariant"
    assert "variant:\n    type: string" in schema(ModelVariant)


def run_stage(executor: str, call: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLIPWAY_MOUNT_ROOT": str(folder), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "pipeline.runners.vertex.entrypoint", "--executor_class_path", executor]
    command += ["--json_serialized_invocation_args", json.dumps(call), "--direct_num_workers=1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_stage_reads_and_writes_buckets_as_files(tmp_path: Path) -> None:
    schema_type = {"instanceSchema": "title: tfx.Schema\ntype: object\n"}
    call = {
        "inputs": {"parameters": {"text": {"stringValue": "feature { name: 'x' }"}}},
        "outputs": {
            "artifacts": {"schema": {"artifacts": [{"name": NAME, "uri": "gs://b/run/schema", "type": schema_type}]}},
            "outputFile": "gs://b/run/executor_output.json",
        },
    }
    done = run_stage("pipeline.components.inline_schema.Executor", call, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gcs/b/run/schema/schema.pbtxt").read_text("utf-8") == "feature { name: 'x' }"
    answer = json.loads((tmp_path / "gcs/b/run/executor_output.json").read_text("utf-8"))
    (artifact,) = answer["artifacts"]["schema"]["artifacts"]
    assert (artifact["name"], artifact["uri"]) == (NAME, "gs://b/run/schema")
