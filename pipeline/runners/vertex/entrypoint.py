"""What every container of a compiled pipeline runs: one stage, told by the service what to read and write.

Comes in: the arguments of the specification, in which the service has replaced `{{$}}` by the stage's inputs and
outputs. Goes out: the outputs, and a file in which the service reads what they are. TFX's own entry point would do for
TFX's components; this one calls the same functions of TFX, and adds what ours need:

- what lies in buckets is read and written as files (`pipeline.mounts`),
- an output may be several artifacts or none, where services know exactly one: they travel as one, with a list,
- our artifact types are known, and a blessing names its model so that the service's resolver finds it again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.__main__ import set_up_process
from pipeline.mounts import local_path, remote_uri

ITEMS = "slipway_items"
"""Custom property of an artifact that stands for several: JSON of their places below it and their properties."""


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the arguments of TFX's entry point, and Beam's."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.runners.vertex.entrypoint", allow_abbrev=False)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args")
    return parser.parse_known_args(argv)


def run(argv: Sequence[str]) -> None:
    """Run a stage.

    Args:
        argv: the container's arguments.

    Raises:
        GateRefused: a gate keeps the run from going on.
        Exception: whatever the stage raises.
    """
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2 import compiler_utils
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as of_tfx
    from tfx.orchestration.portable import outputs_utils
    from tfx.utils import import_utils

    from pipeline.runners.vertex.artifact_types import class_paths

    options, beam_args = parse(argv)
    call = json_format.Parse(
        options.json_serialized_invocation_args, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True
    )
    declared = None
    if options.json_serialized_inputs_spec_args:
        text = options.json_serialized_inputs_spec_args
        declared = json_format.Parse(text, pipeline_spec_pb2.ComponentInputsSpec(), ignore_unknown_fields=True)
    compiler_utils.TITLE_TO_CLASS_PATH.update(class_paths())
    names: dict[int, str] = {}
    inputs = of_tfx.parse_raw_artifact_dict(call.inputs.artifacts, names)
    outputs = of_tfx.parse_raw_artifact_dict(call.outputs.artifacts, names)
    for found in (*inputs.values(), *outputs.values()):
        for artifact in found:
            artifact.uri = local_path(artifact.uri)
    inputs = {key: expanded(found) for key, found in inputs.items()}
    templates = {key: found[0] for key, found in outputs.items()}
    for template in templates.values():
        os.makedirs(template.uri, exist_ok=True)
    properties = of_tfx.parse_execution_properties(call.inputs.parameter_values, call.inputs.parameters, declared)
    executor = _executor(import_utils.import_class_by_path(options.executor_class_path), beam_args, call)
    executor.Do(inputs, outputs, properties)
    outputs_utils.tag_output_artifacts_with_version(outputs)
    single = {key: [collapsed(found, templates[key])] for key, found in outputs.items()}
    _write(single, names, local_path(call.outputs.output_file))


def main() -> int:
    """Run the stage of this process's arguments and return the exit code: 3 if a gate refuses, 2 for a user's error."""
    set_up_process()
    os.environ.setdefault("_KFP_RUNTIME", "true")  # else kfp imports its compiler and clients too, for seconds
    try:
        run(sys.argv[1:])
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if not isinstance(code, int):
            raise
        print(f"slipway: {error}", file=sys.stderr)
        return code
    return 0


def expanded(found: list[Any]) -> list[Any]:
    """Return input artifacts, with one that stands for several replaced by those.

    Args:
        found: TFX artifacts.
    """
    listed = [artifact for artifact in found if artifact.has_custom_property(ITEMS)]
    if not listed:
        return found
    (whole,) = listed
    several = []
    for item in json.loads(whole.get_string_custom_property(ITEMS)):
        artifact = type(whole)()
        artifact.uri = os.path.join(whole.uri, item["place"])
        for name, value in item["properties"].items():
            setattr(artifact, name, value)
        several.append(artifact)
    return several


def collapsed(found: list[Any], template: Any) -> Any:
    """Return one artifact for the artifacts of an output; the opposite of `expanded`.

    Args:
        found: what the stage left, all below the template's folder.
        template: the artifact that the service gave.
    """
    if len(found) == 1 and found[0] is template:
        return template
    items = [
        {
            "place": os.path.relpath(artifact.uri, template.uri),
            "properties": {name: getattr(artifact, name) for name in artifact.PROPERTIES or {}},
        }
        for artifact in found
    ]
    template.set_string_custom_property(ITEMS, json.dumps(items, sort_keys=True))
    return template


def _executor(executor_class: Any, beam_args: list[str], call: Any) -> Any:
    """Return an instance of a stage's executor, with a folder of the service for what lives as long as the stage."""
    from tfx.dsl.components.base import base_beam_executor, base_executor

    task = os.path.dirname(call.outputs.output_file)
    common = {"unique_id": os.path.basename(task), "tmp_dir": os.path.join(local_path(task), ".temp")}
    if issubclass(executor_class, base_beam_executor.BaseBeamExecutor):
        beam = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=beam_args, **common)
        return executor_class(beam)
    return executor_class(base_executor.BaseExecutor.Context(extra_flags=beam_args, **common))


def _write(outputs: dict[str, list[Any]], names: dict[int, str], path: str) -> None:
    """Write what became of the outputs, where the service reads it."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as of_tfx
    from tfx.types import standard_artifacts

    for (artifact,) in outputs.values():
        if isinstance(artifact, standard_artifacts.ModelBlessing):
            name_models(artifact, names)
        artifact.uri = remote_uri(artifact.uri)
    answer = pipeline_spec_pb2.ExecutorOutput()
    for key, listed in of_tfx.translate_executor_output(outputs, names).items():
        answer.artifacts[key].CopyFrom(listed)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(json_format.MessageToJson(answer))


def name_models(blessing: Any, names: dict[int, str]) -> None:
    """Let a blessing name its models as the service does: numbers of 63 bits don't survive in its metadata.

    Args:
        blessing: a ModelBlessing artifact.
        names: the service's name of each artifact, by the number that TFX gave it here.
    """
    from tfx.components.evaluator import constants

    for key in (
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY,
        constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY,
    ):
        number = blessing.get_int_custom_property(key)
        if number in names:
            blessing.set_string_custom_property(key, names[number])
    for key in (
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY,
        constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY,
    ):
        if blessing.has_custom_property(key):
            blessing.set_string_custom_property(key, remote_uri(blessing.get_string_custom_property(key)))


if __name__ == "__main__":
    sys.exit(main())
