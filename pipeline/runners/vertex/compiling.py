"""From the config to a pipeline specification that Vertex AI runs.

Comes in: a config. Goes out: the specification as files, the same bytes for the same config and code, checked by
`pipeline.runners.vertex.check`. What only the service's specification knows (machines, labels, caching) is put into
what TFX's compiler returns; the graph is that of every other target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from tfx.orchestration import pipeline as tfx_pipeline

from pipeline.config.config import Config
from pipeline.config.loading import LoadedConfig
from pipeline.config.vertex import MachineSettings, TrainingJobSettings, VertexSettings
from pipeline.errors import ConfigError
from pipeline.graph import build_pipeline
from pipeline.mounts import local_path
from pipeline.runners.remote import container_config, demand, fingerprint_here, never_cached, to_json, write_atomically
from pipeline.runners.vertex import jobs
from pipeline.runners.vertex.check import check
from pipeline.runners.vertex.deployment import Deployment
from pipeline.stage_keys import stage_keys
from pipeline.targets import Target
from pipeline.workdir import WorkDir
from trainer.settings import TrainSettings, uneven_batches

ENTRY_POINT = ["python", "-m", "pipeline.runners.vertex.entrypoint"]
"""What every container of a specification starts with."""

NEEDED = {
    "root": "set the folder of a bucket for everything that runs make, such as gs://my-bucket/slipway",
    "image": "set the container that holds this project, such as europe-docker.pkg.dev/PROJECT/slipway/pipeline:1",
}
_NEEDED_BY_JOBS = {
    "project": "set the id of the Google Cloud project, since training jobs and endpoints belong to one",
    "region": "set where training jobs and endpoints run, such as europe-west4",
}


def compile_to(loaded: LoadedConfig, out: Path, schema: str | None = None) -> list[Path]:
    """Write the specification; see `pipeline.runners.vertex.compile_vertex`."""
    vertex = loaded.config.vertex
    job = compile_job(loaded.config, schema)
    name = job["pipelineSpec"]["pipelineInfo"]["name"]
    files = [write_atomically(out / f"{name}.json", to_json(job))]
    if (schema or vertex.schema_version) == "2.1":
        files.append(write_atomically(out / f"{name}.yaml", yaml.safe_dump(job["pipelineSpec"], sort_keys=True)))
    return files


def compile_job(config: Config, schema: str | None = None) -> dict[str, Any]:
    """Return a pipeline job for Vertex AI, as JSON would hold it.

    Args:
        config: the config of this machine.
        schema: version of the format, 2.0 or 2.1; None: that of the section `vertex`.

    Raises:
        ConfigError: a value that the service needs is missing, or a stage can't run there.
        DataError: the data isn't there.
    """
    vertex = config.vertex
    schema = schema or vertex.schema_version
    if schema not in ("2.0", "2.1"):
        raise ConfigError(f"received the schema {schema!r}; expected 2.0 or 2.1")
    demand(vertex, "vertex", NEEDED)
    if vertex.training is not None or vertex.endpoint is not None:
        demand(vertex, "vertex", _NEEDED_BY_JOBS)
    if vertex.training is not None:
        _check_batches(config.train, vertex.training)
    inside = container_config(config, vertex, "vertex")
    root = f"{vertex.root}/{config.name}"
    pipeline = build_remote(config, inside, vertex_target(config, root), WorkDir(Path(local_path(root))))
    job = to_spec(pipeline, str(vertex.image), schema, vertex.machines)
    set_caching(job, never_cached(config, vertex.caching))
    job["labels"] = {**job.get("labels", {}), **vertex.labels}
    check(job)
    return job


def vertex_target(config: Config, root: str) -> Target:
    """Return what is different on Vertex AI.

    Args:
        config: the config, whose section `vertex` has what its jobs need.
        root: URI of the pipeline's folder.
    """
    vertex = config.vertex
    deployment = Deployment.of(vertex)
    return Target(
        name="vertex",
        pipeline_root=f"{root}/artifacts",
        baseline="latest_blessed",
        training_job=jobs.job_entries(vertex, jobs.TRAINING, f"{config.name}-trainer"),
        tuning_job=jobs.job_entries(vertex, jobs.TUNING, f"{config.name}-tuner"),
        deployment=deployment.to_json() if deployment else None,
    )


def build_remote(config: Config, inside: Config, target: Target, workdir: WorkDir) -> tfx_pipeline.Pipeline:
    """Build the pipeline of a service.

    Args:
        config: the config of this machine, whose data are fingerprinted.
        inside: the config as it holds in containers.
        target: the service.
        workdir: the work directory as its containers see it.
    """
    fingerprint = fingerprint_here(config)
    keys = stage_keys(config, fingerprint)
    for node, key in keys.items():  # code and data are hashed here, but what is written down is what holds there
        if "model" in key.config:
            model = {**key.config["model"], "module": inside.model.module}
            keys[node] = replace(key, config={**key.config, "model": model})
    return build_pipeline(inside, keys, workdir, fingerprint, target)


def to_spec(
    pipeline: tfx_pipeline.Pipeline, image: str, schema: str, machines: Mapping[str, MachineSettings]
) -> dict[str, Any]:
    """Compile a pipeline with TFX, with our entry point, artifact types and machines.

    Args:
        pipeline: of `build_pipeline`.
        image: container of every stage.
        schema: version of the format, 2.0 or 2.1.
        machines: what a stage's container gets, by stage.

    Raises:
        ConfigError: a machine is of a stage that the pipeline doesn't have.
    """
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

    from pipeline.runners.vertex.artifact_types import known_to_the_compiler

    stages = [component.id for component in pipeline.components]
    for name in machines:
        if name not in stages:
            raise ConfigError(
                f"machines names {name}, which this pipeline doesn't have; its stages: {', '.join(stages)}"
            )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            default_image=image, default_commands=ENTRY_POINT, use_pipeline_spec_2_1=schema == "2.1"
        )
    )
    with known_to_the_compiler():
        job: dict[str, Any] = runner.run(pipeline, write_out=False)
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    for name, machine in machines.items():
        container = executors.get(f"{name}_executor", {}).get("container")
        if container is None:
            raise ConfigError(f"machines names {name}, which runs in no container of its own; remove it")
        container["resources"] = resources(machine)
    return job


def resources(machine: MachineSettings) -> dict[str, Any]:
    """Return a machine as a specification holds it; memory in GB, as Vertex AI counts."""
    wanted: dict[str, Any] = {}
    if machine.cpu is not None:
        wanted["cpuLimit"] = machine.cpu
    if machine.memory_gb is not None:
        wanted["memoryLimit"] = machine.memory_gb
    if machine.accelerator is not None:
        wanted["accelerator"] = {"type": machine.accelerator, "count": str(machine.accelerators)}
    return wanted


def _check_batches(train: TrainSettings, training: TrainingJobSettings) -> None:
    """Refuse a batch that the job's devices can't share: otherwise the rented machines would be the first to say so."""
    devices = training.workers * (training.accelerators if training.accelerator else 1)
    uneven = uneven_batches(train.batch_size, devices)
    if uneven and train.distribute != "off":
        raise ConfigError(f"{uneven} (vertex.training has {training.workers} workers)")


def set_caching(job: dict[str, Any], never: set[str]) -> None:
    """Switch caching off for some tasks, or for all (`*`), and for those that depend on a service's state."""
    for name, task in job["pipelineSpec"]["root"]["dag"]["tasks"].items():
        if "*" in never or name in never or name in ("Resolver", "EndpointDeployer"):
            task.pop("cachingOptions", None)


def settings_of(config: Config) -> VertexSettings:
    """Return the section `vertex`, checked for what a submission needs.

    Raises:
        ConfigError: project, region, root or image is missing.
    """
    needed = {
        "project": "set the id of the Google Cloud project that runs and pays for the pipeline",
        "region": "set where it runs, such as europe-west4",
        **NEEDED,
    }
    demand(config.vertex, "vertex", needed)
    return config.vertex
