"""The section `vertex`: how Vertex AI runs the pipeline.

`machines`, `schedule` and their checks serve the section `kubeflow` too. What a value must be there, but can't have a
default for everybody (project, bucket, image), is unset here, and missed by `slipway compile` and `slipway submit`.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from transform.settings import Settings

STAGES = frozenset(
    {
        "ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "Tuner", "Trainer", "Resolver",
        "Evaluator", "InfraValidator", "Pusher", "Optimizer", "EdgePusher", "FormPusher", "BulkInferrer",
        "EndpointDeployer",
    }
)  # fmt: skip
"""Stages that may get a machine of their own."""

_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_CRON = re.compile(r"(TZ=\S+\s+)?(CRON_TZ=\S+\s+)?\S+(\s+\S+){4}")
_MOST_LABELS = 64


class MachineSettings(Settings):
    """What one stage's container gets."""

    cpu: float | None = Field(None, gt=0, le=1024, description="processors; unset: what the service gives")
    memory_gb: float | None = Field(None, gt=0, le=16_384, description="memory in GB; unset: what the service gives")
    accelerator: str | None = Field(
        None, min_length=1, description="kind of accelerator, such as NVIDIA_TESLA_T4; unset: none"
    )
    accelerators: int = Field(1, ge=1, le=16, description="number of accelerators, where a kind is given")


class TrainingJobSettings(Settings):
    """A custom job that the Trainer and the Tuner start, in place of training in their own container."""

    machine_type: str = Field("n1-standard-8", min_length=1, description="machine of every worker; 8 processors, 30 GB")
    accelerator: str | None = Field(
        None, min_length=1, description="kind of accelerator of every worker, such as NVIDIA_TESLA_T4; unset: none"
    )
    accelerators: int = Field(1, ge=1, le=16, description="accelerators of a worker, where a kind is given")
    workers: int = Field(
        1, ge=1, le=100, description="machines that train together; more than one trains by MultiWorkerMirroredStrategy"
    )
    tuner: bool = Field(False, description="whether the Tuner starts a job too; off, since its trials are short")
    disk_gb: int = Field(100, ge=100, le=64_000, description="boot disk of every worker in GB; 100 is the least")


class ScheduleSettings(Settings):
    """When the service starts runs by itself."""

    cron: str = Field(
        description="five fields of cron, such as '0 4 * * 1'; Vertex AI takes TZ=Europe/Berlin before it"
    )
    most_at_once: int = Field(1, ge=1, le=100, description="runs at a time; one, since runs share the split ledger")
    most_runs: int | None = Field(
        None, ge=1, description="the schedule ends after this many runs; unset: it never ends"
    )

    @field_validator("cron")
    @classmethod
    def _has_five_fields(cls, cron: str) -> str:
        if not _CRON.fullmatch(cron.strip()):
            raise ValueError(
                f"received {cron!r}; expected minute, hour, day, month and weekday, such as '0 4 * * 1' (Mondays at 4)"
            )
        return cron.strip()


class EndpointSettings(Settings):
    """The endpoint to which a pushed model is deployed, and the share of its requests that the model answers."""

    name: str = Field(min_length=1, max_length=128, description="display name; it is made if there is none")
    image: str = Field(min_length=1, description="serving container, such as one of TensorFlow that Google offers")
    machine_type: str = Field(
        "n1-standard-2", min_length=1, description="machine that answers; small ones suffice here"
    )
    accelerator: str | None = Field(None, min_length=1, description="kind of accelerator; unset: none")
    accelerators: int = Field(1, ge=1, le=16, description="number of accelerators, where a kind is given")
    min_replicas: int = Field(1, ge=1, le=1000, description="machines that always run")
    max_replicas: int = Field(1, ge=1, le=1000, description="machines under load; more than min_replicas: autoscaling")
    traffic_percent: int = Field(
        100, ge=0, le=100, description="share of the new model; below 100 the others keep the rest in their proportions"
    )
    undeploy_idle: bool = Field(
        True, description="whether models without a share are taken off; on, since their machines cost money"
    )

    @model_validator(mode="after")
    def _replicas_are_ordered(self) -> EndpointSettings:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"min_replicas is {self.min_replicas} and max_replicas is {self.max_replicas}; expected min <= max"
            )
        return self


def check_stages(machines: dict[str, MachineSettings]) -> dict[str, MachineSettings]:
    """Return machines whose stages all exist.

    Raises:
        ValueError: one doesn't.
    """
    unknown = sorted(set(machines) - STAGES)
    if unknown:
        raise ValueError(f"names {', '.join(unknown)}; expected stages, which are {', '.join(sorted(STAGES))}")
    return machines


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return labels that Google's services take.

    Raises:
        ValueError: there are too many, or one has a character or a length that isn't allowed.
    """
    problems = [
        f"label {key!r}: {value!r} isn't allowed; expected a key of 1 to 63 lowercase letters, digits, '-' and '_', "
        "the first a letter, and a value of at most 63 of them"
        for key, value in labels.items()
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value)
    ]
    if len(labels) > _MOST_LABELS:
        problems.append(f"holds {len(labels)} labels; expected at most {_MOST_LABELS}")
    if problems:
        raise ValueError("\n".join(problems))
    return labels


def check_root(root: str | None, schemes: tuple[str, ...]) -> str | None:
    """Return a pipeline root without a slash at its end.

    Raises:
        ValueError: it is no URI of a bucket.
    """
    if root is None:
        return None
    scheme = next((known for known in schemes if root.startswith(known)), None)
    bucket, *rest = root.removeprefix(scheme or "").rstrip("/").split("/")
    unsafe = any(part in ("", ".", "..") for part in rest) or any(character in root for character in "?#*[] \n\0")
    if scheme is None or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}", bucket) or unsafe:
        raise ValueError(f"received {root!r}; expected a folder of a bucket, such as {schemes[0]}my-bucket/slipway")
    return root.rstrip("/")


class VertexSettings(Settings):
    """What only Vertex AI has to know."""

    project: str | None = Field(None, min_length=1, description="id of the Google Cloud project that runs and pays")
    region: str | None = Field(None, min_length=1, description="where it runs, such as europe-west4; near the bucket")
    root: str | None = Field(
        None, description="folder of a bucket for artifacts, split ledger and versions, such as gs://my-bucket/slipway"
    )
    image: str | None = Field(
        None,
        min_length=1,
        description="container that holds this project with its lock; `slipway image` writes its file",
    )
    service_account: str | None = Field(
        None, pattern=r"[^@\s]+@[^@\s]+", description="account that the stages act as; unset: the service's own"
    )
    labels: dict[str, str] = Field(default_factory=dict, description="labels of the runs, for bills and searches")
    caching: bool = Field(True, description="whether stages take results of earlier runs, as they do locally")
    schema_version: Literal["2.0", "2.1"] = Field(
        "2.1", description="version of the pipeline format; 2.0 is for services that don't know 2.1"
    )
    data_source: str | None = Field(
        None, min_length=1, description="where containers find data.source, such as gs://my-bucket/pictures"
    )
    model_module: str | None = Field(
        None, min_length=1, description="where the image holds the file model.module; needed where that is set"
    )
    machines: dict[str, MachineSettings] = Field(
        default_factory=dict, description="what a stage's container gets, by the name of the stage"
    )
    training: TrainingJobSettings | None = Field(
        None, description="a custom job for the training; unset: the Trainer trains in its own container"
    )
    schedule: ScheduleSettings | None = Field(None, description="when runs start by themselves; unset: by submit only")
    endpoint: EndpointSettings | None = Field(
        None, description="the endpoint that a pushed model is deployed to; unset: it is published as files only"
    )

    @field_validator("machines")
    @classmethod
    def _machines_are_of_stages(cls, machines: dict[str, MachineSettings]) -> dict[str, MachineSettings]:
        return check_stages(machines)

    @field_validator("labels")
    @classmethod
    def _labels_are_allowed(cls, labels: dict[str, str]) -> dict[str, str]:
        return check_labels(labels)

    @field_validator("root")
    @classmethod
    def _root_is_a_bucket(cls, root: str | None) -> str | None:
        return check_root(root, ("gs://",))
