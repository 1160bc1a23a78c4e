"""A compiled specification as plain data, and the few things that its two versions write differently.

Comes in: JSON that `pipeline.runners.vertex.compiling` wrote. Goes out: values, types and references. Called by the
check and by the rehearsal.
"""

from __future__ import annotations

import graphlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError

VERSIONS = ("2.0.0", "2.1.0")

_LEGACY = {"intValue": int, "doubleValue": float, "stringValue": str}
_LEGACY_TYPES = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}


def read(path: Path) -> dict[str, Any]:
    """Read a pipeline job, or the pipeline alone with what its platform needs.

    Raises:
        ConfigError: it can't be read, or is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            job = json.loads(text)
        else:
            pipeline, *platforms = yaml.safe_load_all(text)
            job = {"pipelineSpec": pipeline, **(platforms[0] if platforms else {})}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} can't be read: {error}; expected what `slipway compile` wrote") from error
    if not isinstance(job, dict) or not isinstance(job.get("pipelineSpec"), dict):
        raise ConfigError(f"{path} is no pipeline; expected a file that `slipway compile` wrote")
    return job


def root(job: Mapping[str, Any]) -> str:
    """Return the folder of a bucket below which a job's artifacts lie; one of our own where the cluster chooses it."""
    configured = job.get("runtimeConfig", {}).get("gcsOutputDirectory") or job["pipelineSpec"].get(
        "defaultPipelineRoot"
    )
    return str(configured or "minio://rehearsal/artifacts")


def volumes(job: Mapping[str, Any]) -> list[str]:
    """Return where volumes are mounted in a job's containers."""
    executors = job.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    mounts = {mount["mountPath"] for executor in executors.values() for mount in executor.get("pvcMount", [])}
    return sorted(mounts)


def tasks(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tasks of a specification by name."""
    return dict(spec.get("root", {}).get("dag", {}).get("tasks", {}))


def component_of(spec: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the component that a task is an instance of, or None if it isn't defined."""
    component: dict[str, Any] | None = spec.get("components", {}).get(task.get("componentRef", {}).get("name"))
    return component


def executor_of(spec: Mapping[str, Any], component: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what executes a component, or None if it isn't defined."""
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    executor: dict[str, Any] | None = executors.get(component.get("executorLabel"))
    return executor


def producers(task: Mapping[str, Any]) -> set[str]:
    """Return the names of the tasks whose outputs a task reads."""
    inputs = task.get("inputs", {})
    found = [entry.get("taskOutputArtifact") for entry in inputs.get("artifacts", {}).values()]
    found += [entry.get("taskOutputParameter") for entry in inputs.get("parameters", {}).values()]
    return {source["producerTask"] for source in found if source}


def order(spec: Mapping[str, Any]) -> list[str]:
    """Return the names of all tasks, each after those that it depends on.

    Raises:
        ConfigError: tasks wait for each other.
    """
    graph = {name: sorted({*task.get("dependentTasks", []), *producers(task)}) for name, task in tasks(spec).items()}
    try:
        return [name for name in graphlib.TopologicalSorter(graph).static_order() if name in graph]
    except graphlib.CycleError as error:
        raise ConfigError(f"the tasks {', '.join(error.args[1])} wait for each other; expected no circle") from error


def title(artifact: Mapping[str, Any]) -> str:
    """Return the name of an artifact's type."""
    kind = artifact.get("artifactType", artifact)
    if "instanceSchema" in kind:
        return str((yaml.safe_load(kind["instanceSchema"]) or {}).get("title", ""))
    return str(kind.get("schemaTitle", ""))


def parameter_type(parameter: Mapping[str, Any]) -> str:
    """Return the declared type of a parameter in the words of version 2.1."""
    return str(parameter.get("parameterType") or _LEGACY_TYPES.get(str(parameter.get("type")), parameter.get("type")))


def plain_value(value: Any) -> Any:
    """Return a constant as Python's own: version 2.0 writes `{"intValue": "3"}` for 3."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, inner),) = value.items()
        if kind in _LEGACY:
            return _LEGACY[kind](inner)
    return value


def legacy_value(value: Any) -> dict[str, Any]:
    """Return a value as version 2.0 writes it; the opposite of `plain_value`."""
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def constant(entry: Mapping[str, Any]) -> Any:
    """Return the constant that a task passes for a parameter, or None if it passes none."""
    runtime = entry.get("runtimeValue", {})
    return plain_value(runtime.get("constantValue", runtime.get("constant")))
