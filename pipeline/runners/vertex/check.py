"""What must hold in a specification before it is sent: references, types, images, parameters, conditions, paths.

Comes in: a pipeline job. Goes out: one sentence per fault. Google's and Kubeflow's own libraries accept a
specification whose tasks name components, executors and outputs that don't exist; the service refuses it only when it
has been sent, or the run fails halfway.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.runners.vertex import conditions
from pipeline.runners.vertex import spec as specs

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_IMAGE = re.compile(r"[a-z0-9]([a-zA-Z0-9._:/-]*[a-zA-Z0-9])?(@sha256:[0-9a-f]{64})?")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_PYTHON_TYPES = {"NUMBER_INTEGER": (int,), "NUMBER_DOUBLE": (int, float), "STRING": (str,), "BOOLEAN": (bool,)}
_FUNCTIONS = ("run_fn", "tuner_fn", "preprocessing_fn")
_LEAST_PATH = 5
"""Shorter paths of this machine (`/`, `/app`) may well be meant for containers."""


def check(job: Mapping[str, Any]) -> None:
    """Check a pipeline job.

    Raises:
        ConfigError: one sentence for each fault.
    """
    faults = spec_errors(job)
    if faults:
        raise ConfigError(*(f"the specification can't run: {fault}" for fault in faults))


def spec_errors(job: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a pipeline job, one sentence each; nothing where it is sound."""
    spec = job.get("pipelineSpec", {})
    faults = [*_parse_errors(spec), *_frame_errors(job)]
    if faults:
        return faults
    tasks = specs.tasks(spec)
    for name, task in tasks.items():
        component = specs.component_of(spec, task)
        if component is None:
            faults.append(f"{name}: there is no component {task.get('componentRef', {}).get('name')!r}")
            continue
        faults += [f"{name}: {fault}" for fault in _task_errors(spec, tasks, task, component)]
        faults += [f"{name}: {fault}" for fault in _executor_errors(spec, component)]
    try:
        specs.order(spec)
    except ConfigError as error:
        faults.append(str(error))
    return faults


def _parse_errors(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the format's own definition refuses: unknown keys, wrong types."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    parts = ((spec, pipeline_spec_pb2.PipelineSpec()), (spec.get("deploymentSpec", {}), None))
    for part, message in parts:
        try:
            json_format.ParseDict(part, message or pipeline_spec_pb2.PipelineDeploymentConfig())
        except (json_format.ParseError, TypeError, AttributeError) as error:
            yield f"it isn't in the format of pipelines: {error}"


def _frame_errors(job: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults of what stands around the tasks."""
    spec = job.get("pipelineSpec", {})
    if spec.get("schemaVersion") not in specs.VERSIONS:
        yield f"its schemaVersion is {spec.get('schemaVersion')!r}; expected one of {', '.join(specs.VERSIONS)}"
    name = str(spec.get("pipelineInfo", {}).get("name", ""))
    if not _NAME.fullmatch(name):
        yield f"its name is {name!r}; expected lowercase letters, digits and '-', at most 128"
    if not specs.tasks(spec):
        yield "it has no tasks"
    root = job.get("runtimeConfig", {}).get("gcsOutputDirectory", spec.get("defaultPipelineRoot"))
    if root is not None and not re.match(r"(gs|s3|minio)://[^/]+", str(root)):
        yield f"its root is {root!r}; expected a folder of a bucket"
    for key, value in job.get("labels", {}).items():
        if not _LABEL.fullmatch(key) or not _LABEL.fullmatch(str(value)):
            yield f"its label {key}={value} is not allowed; expected at most 63 of a-z, 0-9, '-' and '_'"


def _task_errors(
    spec: Mapping[str, Any], tasks: Mapping[str, Any], task: Mapping[str, Any], component: Mapping[str, Any]
) -> Iterator[str]:
    """Yield faults of what a task reads and waits for."""
    for other in task.get("dependentTasks", []):
        if other not in tasks:
            yield f"it waits for {other!r}, which doesn't exist"
    declared = component.get("inputDefinitions", {})
    inputs = task.get("inputs", {})
    artifacts = inputs.get("artifacts", {})
    for key, definition in declared.get("artifacts", {}).items():
        if key not in artifacts and not definition.get("isOptional"):
            yield f"nothing gives it the input {key!r}"
    for key, entry in artifacts.items():
        source = entry.get("taskOutputArtifact")
        if source is None:
            continue
        made = _output(spec, tasks, source["producerTask"], "artifacts", source.get("outputArtifactKey", key))
        if made is None:
            yield f"its input {key!r} is {source['producerTask']}.{source.get('outputArtifactKey')}, which isn't made"
        elif key not in declared.get("artifacts", {}):
            yield f"its component has no input {key!r}"
        elif specs.title(made) != (wanted := specs.title(declared["artifacts"][key])):
            yield f"its input {key!r} is of type {specs.title(made)}; expected {wanted}"
    yield from _parameter_errors(spec, tasks, inputs.get("parameters", {}), declared.get("parameters", {}))
    condition = task.get("triggerPolicy", {}).get("condition")
    if condition:
        try:
            unknown = conditions.inputs(condition) - set(artifacts)
            yield from (f"its condition asks for the input {key!r}, which it doesn't have" for key in sorted(unknown))
        except ConfigError as error:
            yield str(error)


def _output(
    spec: Mapping[str, Any], tasks: Mapping[str, Any], producer: str, kind: str, key: str
) -> Mapping[str, Any] | None:
    component = specs.component_of(spec, tasks.get(producer, {})) or {}
    definition: Mapping[str, Any] | None = component.get("outputDefinitions", {}).get(kind, {}).get(key)
    return definition


def _parameter_errors(
    spec: Mapping[str, Any], tasks: Mapping[str, Any], given: Mapping[str, Any], declared: Mapping[str, Any]
) -> Iterator[str]:
    """Yield faults of a task's parameters."""
    of_the_run = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for key, definition in declared.items():
        if key not in given and "defaultValue" not in definition and not definition.get("isOptional"):
            yield f"nothing gives it the parameter {key!r}"
    for key, entry in given.items():
        if key not in declared:
            yield f"its component has no parameter {key!r}"
            continue
        kind = specs.parameter_type(declared[key])
        value = specs.constant(entry)
        if "componentInputParameter" in entry:
            name = entry["componentInputParameter"]
            if name not in of_the_run:
                yield f"its parameter {key!r} is that of the run, {name!r}, which isn't declared"
            elif specs.parameter_type(of_the_run[name]) != kind:
                yield f"its parameter {key!r} is {kind}, but the run's {name!r} is another type"
        elif "taskOutputParameter" in entry:
            source = entry["taskOutputParameter"]
            producer = source["producerTask"]
            if _output(spec, tasks, producer, "parameters", source["outputParameterKey"]) is None:
                yield f"its parameter {key!r} is {producer}.{source['outputParameterKey']}, which isn't made"
        elif value is None:
            yield f"its parameter {key!r} has no value"
        elif not _is_a(value, kind):
            yield f"its parameter {key!r} is {value!r:.60}; expected {kind}"
        elif isinstance(value, str):
            yield from _text_errors(key, value)


def _is_a(value: Any, kind: str) -> bool:
    if kind == "NUMBER_INTEGER" and isinstance(value, float):
        return value.is_integer()
    if isinstance(value, bool) and kind != "BOOLEAN":
        return False
    return kind not in _PYTHON_TYPES or isinstance(value, _PYTHON_TYPES[kind])


def _text_errors(key: str, text: str) -> Iterator[str]:
    """Yield paths of this machine and functions that don't exist in a text."""
    for place in sorted({str(Path.home()), os.getcwd()}):
        if len(place) >= _LEAST_PATH and re.search(re.escape(place) + r"(?![\w-])", text):
            yield f"its parameter {key!r} names {place}, a folder of this machine, which containers don't see"
    if key in _FUNCTIONS and not _function_exists(text):
        yield f"its parameter {key!r} is {text!r}; there is no such function"


def _function_exists(dotted: str) -> bool:
    """Return whether a module defines a function, without running the module."""
    module, _, name = dotted.rpartition(".")
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    if found is None or found.origin is None:
        return False
    return bool(re.search(rf"^def {re.escape(name)}\(", Path(found.origin).read_text(encoding="utf-8"), re.MULTILINE))


def _executor_errors(spec: Mapping[str, Any], component: Mapping[str, Any]) -> Iterator[str]:
    """Yield faults of what executes a component."""
    executor = specs.executor_of(spec, component)
    if executor is None:
        yield f"there is no executor {component.get('executorLabel')!r}"
        return
    container = executor.get("container")
    if container is None:
        if not executor.get("resolver") and not executor.get("importer"):
            yield "its executor is neither a container, nor a resolver, nor an importer"
        return
    image = str(container.get("image", ""))
    if not _IMAGE.fullmatch(image):
        yield f"its image is {image!r}; expected a name such as europe-docker.pkg.dev/project/repository/name:tag"
    if not container.get("command"):
        yield "its container has no command"
    arguments = container.get("args", [])
    if "--executor_class_path" in arguments:
        path = arguments[arguments.index("--executor_class_path") + 1]
        if not _class_exists(path):
            yield f"its executor is {path!r}; there is no such class"
    accelerator = container.get("resources", {}).get("accelerator")
    if accelerator is not None and not (accelerator.get("type") and int(accelerator.get("count", 0)) > 0):
        yield f"its accelerator is {json.dumps(accelerator)}; expected a type and a count"


def _class_exists(dotted: str) -> bool:
    from tfx.utils import import_utils

    try:
        import_utils.import_class_by_path(dotted)
    except (ImportError, AttributeError, ValueError):
        return False
    return True
