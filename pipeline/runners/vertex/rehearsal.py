"""A compiled specification, run on this machine: every container, resolver, importer and condition, in order.

Comes in: a file of `slipway compile`. Goes out: what became of each task, and below a folder everything that would lie
in buckets. It shows that image contents, code, arguments and artifacts fit together. It does not show how a service
behaves: what is assumed about it is that it merges what a container writes about an output into what it gave, that a
resolver takes the newest artifact and may find none, and that a task after a skipped one is skipped.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.mounts import MOUNT_ROOT, local_path
from pipeline.runners.vertex import conditions
from pipeline.runners.vertex import spec as specs
from pipeline.runners.vertex.artifact_store import Artifact, ArtifactStore, result_key
from pipeline.runners.vertex.check import check
from pipeline.runners.vertex.containers import ContainerFailed, Machine

RAN, CACHED, RESOLVED, IMPORTED, SKIPPED = "ran", "cached", "resolved", "imported", "skipped"
REFUSED, FAILED, NOT_REACHED = "refused", "failed", "not reached"

_GATE = 3
"""Exit code of a stage in which a gate refused."""


@dataclass(frozen=True)
class TaskResult:
    """What became of one task."""

    name: str
    state: str
    seconds: float = 0.0
    detail: str = ""


@dataclass
class Rehearsal:
    """What became of all tasks, in the order in which they ran."""

    folder: Path
    tasks: list[TaskResult] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed or was refused."""
        return not any(task.state in (FAILED, REFUSED, NOT_REACHED) for task in self.tasks)

    def state(self, name: str) -> str:
        """Return the state of a task."""
        return next(task.state for task in self.tasks if task.name == name)

    def table(self) -> str:
        """Return one line per task: name, state, seconds, and what there is to say."""
        width = max((len(task.name) for task in self.tasks), default=0)
        return "\n".join(
            f"{task.name:{width}}  {task.state:11}  {task.seconds:7.1f} s  {task.detail}".rstrip()
            for task in self.tasks
        )


def rehearse_file(
    path: Path,
    folder: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    here: Mapping[str, str] | None = None,
    timeout_seconds: float = 3600,
) -> Rehearsal:
    """Run every task of a specification on this machine.

    Args:
        path: `.json` or `.yaml` of `slipway compile`.
        folder: for everything that tasks make; a second rehearsal in it finds what the first one left.
        parameters: values of the run's parameters.
        here: paths of containers that lie elsewhere on this machine, such as the data's.
        timeout_seconds: time limit of each container.

    Raises:
        ConfigError: the specification is damaged, or a parameter has no value.
    """
    job = specs.read(path)
    check(job)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    machine = Machine(folder, specs.volumes(job), here or {}, timeout_seconds)
    return _Run(job, machine, ArtifactStore(folder), parameters or {}).run()


class _Run:
    """One rehearsal."""

    def __init__(self, job: Mapping[str, Any], machine: Machine, store: ArtifactStore, given: Mapping[str, Any]):
        self._spec: dict[str, Any] = job["pipelineSpec"]
        self._modern = self._spec["schemaVersion"] >= "2.1"
        self._machine = machine
        self._store = store
        self._parameters = run_parameters(job, given)
        self._root = specs.root(job)
        self._number = len(list((machine.folder / "logs").glob("*"))) + 1
        self._logs = machine.folder / "logs" / f"{self._number:03d}"
        self._outputs: dict[str, dict[str, list[Artifact]]] = {}
        self._values: dict[str, dict[str, Any]] = {}
        self._absent: set[str] = set()

    def run(self) -> Rehearsal:
        """Run all tasks; after a failure none is reached."""
        self._logs.mkdir(parents=True)
        rehearsal = Rehearsal(self._machine.folder)
        for name in specs.order(self._spec):
            if not rehearsal.ok:
                rehearsal.tasks.append(TaskResult(name, NOT_REACHED))
                continue
            started = time.perf_counter()
            try:
                result = self._task(name)
            except ContainerFailed as error:
                result = TaskResult(name, REFUSED if error.code == _GATE else FAILED, detail=str(error))
            except ConfigError as error:
                result = TaskResult(name, FAILED, detail=str(error))
            rehearsal.tasks.append(replace(result, seconds=round(time.perf_counter() - started, 2)))
            self._store.save()
        return rehearsal

    def _task(self, name: str) -> TaskResult:
        task = specs.tasks(self._spec)[name]
        component = specs.component_of(self._spec, task) or {}
        executor = specs.executor_of(self._spec, component) or {}
        before = sorted(self._absent & {*task.get("dependentTasks", []), *specs.producers(task)})
        if before:
            self._absent.add(name)
            return TaskResult(name, SKIPPED, detail=f"{', '.join(before)} was skipped")
        artifacts = self._artifacts(task)
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition and not conditions.holds(condition, artifacts):
            self._absent.add(name)
            return TaskResult(name, SKIPPED, detail=f"its condition doesn't hold: {condition}")
        parameters = self._task_parameters(task, component)
        if "resolver" in executor:
            return self._resolve(name, executor["resolver"], artifacts)
        if "importer" in executor:
            return self._import(name, component, executor["importer"], parameters)
        return self._contain(name, task, component, executor["container"], artifacts, parameters)

    def _artifacts(self, task: Mapping[str, Any]) -> dict[str, list[Artifact]]:
        found: dict[str, list[Artifact]] = {}
        for key, entry in task.get("inputs", {}).get("artifacts", {}).items():
            source = entry["taskOutputArtifact"]
            found[key] = self._outputs[source["producerTask"]].get(source["outputArtifactKey"], [])
        return found

    def _task_parameters(self, task: Mapping[str, Any], component: Mapping[str, Any]) -> dict[str, Any]:
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        values = {key: entry["defaultValue"] for key, entry in declared.items() if "defaultValue" in entry}
        for key, entry in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in entry:
                value = self._parameters[entry["componentInputParameter"]]
            elif "taskOutputParameter" in entry:
                source = entry["taskOutputParameter"]
                value = self._values[source["producerTask"]][source["outputParameterKey"]]
            else:
                value = specs.constant(entry)
            values[key] = self._machine.paths_here(value) if isinstance(value, str) else value
        return values

    def _resolve(self, name: str, resolver: Mapping[str, Any], artifacts: dict[str, list[Artifact]]) -> TaskResult:
        queries = resolver.get("outputArtifactQueries", {})
        found = {key: self._store.newest(query["filter"], artifacts) for key, query in queries.items()}
        self._outputs[name] = found
        named = [f"{key}: {listed[0]['uri'] if listed else 'none'}" for key, listed in sorted(found.items())]
        return TaskResult(name, RESOLVED, detail="; ".join(named))

    def _import(
        self, name: str, component: Mapping[str, Any], importer: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> TaskResult:
        ((key, _),) = component["outputDefinitions"]["artifacts"].items()
        uri = importer["artifactUri"]
        if "runtimeParameter" in uri:
            value = parameters.get(uri["runtimeParameter"], self._parameters.get(uri["runtimeParameter"]))
        else:
            value = specs.constant({"runtimeValue": uri})
        artifact = {
            "name": self._store.new_name(),
            "uri": value,
            "type": importer["typeSchema"],
            "metadata": importer.get("metadata", {}),
        }
        known = None if importer.get("reimport") else self._store.same(artifact)
        if known is None:
            self._store.add(artifact)
        self._outputs[name] = {key: [known or artifact]}
        return TaskResult(name, IMPORTED, detail=str(value))

    def _contain(
        self,
        name: str,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        container: Mapping[str, Any],
        artifacts: dict[str, list[Artifact]],
        parameters: dict[str, Any],
    ) -> TaskResult:
        inputs = {"artifacts": {k: [a["name"] for a in v] for k, v in artifacts.items()}, "parameters": parameters}
        key = result_key(component, container, inputs)
        known = self._store.result(key) if task.get("cachingOptions", {}).get("enableCache") else None
        if known is not None and all(self._is_there(a["uri"]) for made in known["artifacts"].values() for a in made):
            self._outputs[name], self._values[name] = known["artifacts"], known["values"]
            return TaskResult(name, CACHED)
        place = f"{self._root}/0/{self._spec['pipelineInfo']['name']}/{name}_{self._number}"
        outputs = self._new_outputs(component, place)
        call = self._call(artifacts, parameters, outputs, component, place)
        log = self._logs / f"{name}.log"
        hook = container.get("lifecycle", {}).get("preCacheCheck")
        for step in filter(None, (hook, container)):
            self._machine.run(name, step, call, log)
            self._take_answer(call, outputs, name)
        self._outputs[name] = outputs
        for listed in outputs.values():
            for artifact in listed:
                self._store.add(artifact)
        self._store.keep_result(key, {"artifacts": outputs, "values": self._values[name]})
        return TaskResult(name, RAN)

    def _new_outputs(self, component: Mapping[str, Any], place: str) -> dict[str, list[Artifact]]:
        defined = component.get("outputDefinitions", {}).get("artifacts", {})
        return {
            key: [
                {
                    "name": f"{self._store.new_name()}-{key}",
                    "uri": f"{place}/{key}",
                    "type": definition["artifactType"],
                    "metadata": definition.get("metadata", {}),
                }
            ]
            for key, definition in defined.items()
        }

    def _call(
        self,
        artifacts: Mapping[str, list[Artifact]],
        parameters: Mapping[str, Any],
        outputs: Mapping[str, list[Artifact]],
        component: Mapping[str, Any],
        place: str,
    ) -> dict[str, Any]:
        """Return what takes the place of `{{$}}`."""
        values = "parameterValues" if self._modern else "parameters"
        given = dict(parameters) if self._modern else {key: specs.legacy_value(v) for key, v in parameters.items()}
        of_outputs = component.get("outputDefinitions", {}).get("parameters", {})
        return {
            "inputs": {"artifacts": {key: {"artifacts": found} for key, found in artifacts.items()}, values: given},
            "outputs": {
                "artifacts": {key: {"artifacts": made} for key, made in outputs.items()},
                "parameters": {key: {"outputFile": f"{place}/{key}.value"} for key in of_outputs},
                "outputFile": f"{place}/executor_output.json",
            },
        }

    def _take_answer(self, call: Mapping[str, Any], outputs: dict[str, list[Artifact]], name: str) -> None:
        """Merge what a container wrote about its outputs into what it was given."""
        path = Path(self._here(call["outputs"]["outputFile"]))
        if not path.exists():
            raise ConfigError(f"{name} ended well, but wrote nothing about its outputs to {path}")
        answer = json.loads(path.read_text(encoding="utf-8"))
        for key, listed in answer.get("artifacts", {}).items():
            for artifact, update in zip(outputs.get(key, []), listed.get("artifacts", []), strict=False):
                metadata = {**artifact["metadata"], **update.get("metadata", {})}
                artifact.update({**update, "type": artifact["type"], "name": artifact["name"], "metadata": metadata})
        self._values[name] = answer.get("parameterValues", {})

    def _here(self, uri: str) -> str:
        path = local_path(uri)
        return path if os.environ.get(MOUNT_ROOT) else self._machine.paths_here(path)

    def _is_there(self, uri: str) -> bool:
        return os.path.exists(self._here(uri))


def run_parameters(job: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the run's parameters.

    Args:
        job: the pipeline job, whose values count where none is given.
        given: values by name.

    Raises:
        ConfigError: one isn't declared, or has no value.
    """
    declared = job["pipelineSpec"]["root"].get("inputDefinitions", {}).get("parameters", {})
    config = job.get("runtimeConfig", {})
    values = {key: entry["defaultValue"] for key, entry in declared.items() if "defaultValue" in entry}
    values |= {key: specs.plain_value(value) for key, value in config.get("parameters", {}).items()}
    values |= {**config.get("parameterValues", {}), **given}
    unknown, missing = sorted(set(values) - set(declared)), sorted(set(declared) - set(values))
    if unknown:
        names = ", ".join(sorted(declared)) or "none"
        raise ConfigError(f"the pipeline has no parameter {', '.join(unknown)}; its parameters: {names}")
    if missing:
        raise ConfigError(f"the run's parameters {', '.join(missing)} have no value; give each one")
    return values
