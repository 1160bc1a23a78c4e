"""The section `kubeflow`: how Kubeflow Pipelines on one's own cluster runs the pipeline."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import Field, field_validator

from pipeline.config.vertex import MachineSettings, ScheduleSettings, check_root, check_stages
from transform.settings import Settings


class KubeflowSettings(Settings):
    """What only Kubeflow Pipelines has to know."""

    host: str | None = Field(
        None, pattern=r"https?://\S+", description="address of the service, such as http://localhost:8080; for submit"
    )
    namespace: str | None = Field(None, min_length=1, description="namespace of the runs; unset: the service's own")
    experiment: str = Field("slipway", min_length=1, description="experiment under which the service lists the runs")
    token_env: str | None = Field(
        None, min_length=1, description="environment variable with the access token; unset: the cluster asks for none"
    )
    service_account: str | None = Field(
        None, min_length=1, description="Kubernetes account of the pods; unset: default"
    )
    image: str | None = Field(
        None,
        min_length=1,
        description="container that holds this project with its lock; `slipway image` writes its file",
    )
    root: str | None = Field(
        None, description="folder of a bucket for artifacts (s3://, minio:// or gs://); unset: the cluster's own"
    )
    volume: str | None = Field(
        None,
        min_length=1,
        description="persistent volume claim for the split ledger and versions, shared by all stages",
    )
    mount: str = Field("/slipway", description="where the volume is mounted in every container")
    caching: bool = Field(True, description="whether stages take results of earlier runs, as they do locally")
    data_source: str | None = Field(
        None, min_length=1, description="where containers find data.source, such as a folder below mount"
    )
    model_module: str | None = Field(
        None, min_length=1, description="where the image holds the file model.module; needed where that is set"
    )
    machines: dict[str, MachineSettings] = Field(
        default_factory=dict, description="what a stage's container gets, by the name of the stage"
    )
    schedule: ScheduleSettings | None = Field(None, description="when runs start by themselves; unset: by submit only")

    @field_validator("machines")
    @classmethod
    def _machines_are_of_stages(cls, machines: dict[str, MachineSettings]) -> dict[str, MachineSettings]:
        return check_stages(machines)

    @field_validator("root")
    @classmethod
    def _root_is_a_bucket(cls, root: str | None) -> str | None:
        return check_root(root, ("s3://", "minio://", "gs://"))

    @field_validator("mount")
    @classmethod
    def _mount_is_a_folder(cls, mount: str) -> str:
        path = PurePosixPath(mount)
        if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
            raise ValueError(f"received {mount!r}; expected an absolute path below /, such as /slipway")
        return str(path)
