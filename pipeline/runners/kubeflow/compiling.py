"""From the config to a pipeline specification that Kubeflow Pipelines 2 runs on one's own cluster.

Comes in: a config. Goes out: one YAML file of two documents, the pipeline and what Kubernetes has to know (the
volume). What differs from Vertex AI: the cluster has no resolvers, so the baseline comes from what was
published; and buckets are copied to and fro by its launcher, so what outlives a run (split ledger, versions,
unfinished trainings) lies on a volume.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.config.config import Config
from pipeline.config.kubeflow import KubeflowSettings
from pipeline.config.loading import LoadedConfig
from pipeline.errors import ConfigError
from pipeline.runners.remote import container_config, demand, never_cached, write_atomically
from pipeline.runners.vertex.check import check
from pipeline.runners.vertex.compiling import build_remote, set_caching, to_spec
from pipeline.targets import Target
from pipeline.workdir import WorkDir

NEEDED = {
    "image": "set the container that holds this project, such as registry.example.org/slipway/pipeline:1",
    "volume": "set a persistent volume claim that several pods may mount (ReadWriteMany), for ledger and versions",
}
_PLACEHOLDER_ROOT = "minio://cluster/artifacts"
"""TFX wants a root; where none is set, the cluster puts its own in its place."""


def compile_to(loaded: LoadedConfig, out: Path) -> list[Path]:
    """Write the specification; see `pipeline.runners.kubeflow.compile_kubeflow`."""
    job = compile_job(loaded.config)
    documents = [job["pipelineSpec"], {"platforms": job["platforms"]}]
    name = job["pipelineSpec"]["pipelineInfo"]["name"]
    return [write_atomically(out / f"{name}.yaml", yaml.safe_dump_all(documents, sort_keys=True))]


def compile_job(config: Config) -> dict[str, Any]:
    """Return the pipeline (`pipelineSpec`) and what Kubernetes has to know (`platforms`).

    Args:
        config: the config of this machine.

    Raises:
        ConfigError: a value that the cluster needs is missing, or a stage can't run there.
        DataError: the data isn't there.
    """
    settings = config.kubeflow
    demand(settings, "kubeflow", NEEDED)
    if config.tune.mode == "reuse":
        raise ConfigError(
            "tune.mode is reuse, which needs a resolver, and Kubeflow Pipelines has none; set it to search, where "
            "caching keeps a search from running twice, or to off"
        )
    inside = container_config(config, settings, "kubeflow")
    root = f"{settings.root or _PLACEHOLDER_ROOT}/{config.name}"
    target = Target(name="kubeflow", pipeline_root=root, baseline="served")
    pipeline = build_remote(config, inside, target, WorkDir(Path(settings.mount, config.name)))
    job = to_spec(pipeline, str(settings.image), "2.1", settings.machines)
    set_caching(job, never_cached(config, settings.caching))
    spec = job["pipelineSpec"]
    if settings.root:
        spec["defaultPipelineRoot"] = root
    check({"pipelineSpec": spec})
    return {"pipelineSpec": spec, "platforms": _platforms(spec, settings)}


def _platforms(spec: dict[str, Any], settings: KubeflowSettings) -> dict[str, Any]:
    """Return what Kubernetes has to know: the volume, mounted in every container."""
    mount = {"pvcMount": [{"constant": settings.volume, "mountPath": settings.mount}]}
    containers = (name for name, executor in spec["deploymentSpec"]["executors"].items() if "container" in executor)
    return {"kubernetes": {"deploymentSpec": {"executors": {name: mount for name in sorted(containers)}}}}
