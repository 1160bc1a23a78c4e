"""The custom job in which Vertex AI trains: worker pools by the section `vertex.training`.

Comes in: the config's section. Goes out: entries of `custom_config` for TFX's Trainer and Tuner of Vertex AI. Both get
the job below `job_spec`: with several trials at a time, TFX's Tuner reads it nowhere else.
"""

from __future__ import annotations

from typing import Any

from pipeline.config.vertex import TrainingJobSettings, VertexSettings

# The names by which TFX's Trainer and Tuner find these entries; importing them would import all of Google's clients.
ENABLE = "ai_platform_enable_vertex"
REGION = "ai_platform_vertex_region"
TRAINING = "ai_platform_training_args"
TUNING = "ai_platform_tuning_args"

_ENVIRONMENT = ({"name": "TF_USE_LEGACY_KERAS", "value": "1"},)
"""TFX's own command starts a worker, not our entry point, which would set this."""


def worker_pools(training: TrainingJobSettings, image: str, workers: int) -> list[dict[str, Any]]:
    """Return the pools of a job: the chief in the first, all others in the second.

    Args:
        training: machine, accelerators and disk of each worker.
        image: container that they run; TFX sets its command.
        workers: number of machines.
    """
    machine: dict[str, Any] = {"machine_type": training.machine_type}
    if training.accelerator:
        machine |= {"accelerator_type": training.accelerator, "accelerator_count": training.accelerators}
    counts = [1, workers - 1] if workers > 1 else [1]
    return [
        {
            "replica_count": count,
            "machine_spec": dict(machine),
            "container_spec": {"image_uri": image, "env": [dict(setting) for setting in _ENVIRONMENT]},
            "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": training.disk_gb},
        }
        for count in counts
    ]


def job_entries(vertex: VertexSettings, kind: str, name: str) -> dict[str, Any] | None:
    """Return the entries of `custom_config` that make a stage start a job of its own, or None if it shouldn't.

    Args:
        vertex: the section, with project, region and image.
        kind: `TRAINING` or `TUNING`.
        name: display name of the job.
    """
    training = vertex.training
    if training is None or (kind == TUNING and not training.tuner):
        return None
    workers = training.workers if kind == TRAINING else 1
    spec: dict[str, Any] = {"worker_pool_specs": worker_pools(training, str(vertex.image), workers)}
    if vertex.service_account:
        spec["service_account"] = vertex.service_account
    job = {"project": vertex.project, "display_name": name, "job_spec": spec, "labels": dict(vertex.labels)}
    return {ENABLE: True, REGION: vertex.region, kind: job}
