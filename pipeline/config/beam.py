"""The section `beam`: what runs the data stages.

`pipeline.beam_options` turns it into Beam's own options and checks what only Beam knows. What an engine needs and can't
have a default for everybody (project, bucket, address) is unset here, and missed where a pipeline is built for it.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from transform.settings import Settings

Runner = Literal["direct", "workers", "portable", "flink", "spark", "dataflow"]

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_OPTION = re.compile(r"[a-z][a-z0-9_-]*")
_MOST_PORTS = 65_535


def is_address(text: str) -> bool:
    """Return whether a text is `host:port`."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and 0 < int(match[2]) <= _MOST_PORTS


class DataflowSettings(Settings):
    """What only Google's Dataflow has to know; project, region, image and account are Vertex AI's where unset."""

    project: str | None = Field(None, min_length=1, description="id of the project; unset: vertex.project")
    region: str | None = Field(None, min_length=1, description="where it runs; unset: vertex.region")
    temp_location: str | None = Field(
        None, pattern=r"gs://\S+", description="folder of a bucket for files in between; unset: tmp below vertex.root"
    )
    service_account: str | None = Field(
        None, min_length=1, description="account that workers act as; unset: vertex.service_account"
    )
    machine_type: str | None = Field(None, min_length=1, description="machine of a worker; unset: Dataflow chooses")
    most_workers: int | None = Field(None, ge=1, le=4000, description="most workers at a time; unset: Dataflow chooses")


class BeamSettings(Settings):
    """On which engine the data stages run, and with how many workers."""

    runner: Runner = Field(
        "direct", description="direct: in this process, the cheapest for what fits on one machine; see docs/scaling.md"
    )
    workers: int = Field(
        2, ge=1, le=1000, description="worker processes of the engines other than direct; two are the least that share"
    )
    pools: tuple[str, ...] = Field(
        (), description="for workers: host:port of pools on other machines; empty: processes of this machine"
    )
    driver_host: str | None = Field(
        None, min_length=1, description="name or address at which pools reach this machine; unset: found by itself"
    )
    driver_port: int = Field(0, ge=0, le=65_535, description="port for it, where a firewall asks; 0: any free one")
    worker_timeout_seconds: int = Field(
        120,
        ge=1,
        le=3600,
        description="seconds until a worker that doesn't connect is given up; ample on a busy machine",
    )
    master: str | None = Field(
        None, min_length=1, description="for flink: host:port of its REST service; for spark: spark://host:port"
    )
    job_endpoint: str | None = Field(
        None, description="for portable, flink and spark: host:port of a job service that is running"
    )
    environment: Literal["loopback", "external", "docker", "process"] = Field(
        "loopback",
        description="for portable, flink and spark: where workers run; loopback: on this machine, for trials",
    )
    environment_config: str | None = Field(
        None, min_length=1, description="its address (external), image (docker) or JSON with the command (process)"
    )
    image: str | None = Field(
        None, min_length=1, description="container of the workers with this project in it; unset: vertex.image"
    )
    setup_file: str | None = Field(
        None, min_length=1, description="setup.py from which workers install this project, in place of an image"
    )
    dataflow: DataflowSettings = Field(
        default_factory=lambda: DataflowSettings.model_validate({}), description="what Dataflow has to know"
    )
    options: dict[str, str | int | float | bool | tuple[str, ...]] = Field(
        default_factory=dict,
        description="further options of Beam by their names, such as number_of_worker_harness_threads",
    )

    @field_validator("pools")
    @classmethod
    def _pools_are_addresses(cls, pools: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [pool for pool in pools if not is_address(pool)]
        if wrong:
            raise ValueError(f"received {wrong[0]!r}; expected host:port, such as worker-1.local:50000")
        if len(set(pools)) < len(pools):
            raise ValueError("names a pool twice; list each once, work goes round all of them anyway")
        return pools

    @field_validator("job_endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not is_address(endpoint):
            raise ValueError(f"received {endpoint!r}; expected host:port of a job service, such as localhost:8099")
        return endpoint

    @field_validator("options", mode="before")
    @classmethod
    def _options_have_names(cls, options: object) -> object:
        if not isinstance(options, dict):
            return options
        wrong = [name for name in options if not isinstance(name, str) or not _OPTION.fullmatch(name)]
        if wrong:
            raise ValueError(f"received {wrong[0]!r}; expected a name of Beam's without dashes before it")
        return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}

    @model_validator(mode="after")
    def _image_or_setup_file(self) -> BeamSettings:
        if self.image is not None and self.setup_file is not None:
            raise ValueError(
                f"image is {self.image!r} and setup_file is {self.setup_file!r}; expected one of them, since workers "
                "would install over what the image holds"
            )
        if self.pools and self.runner != "workers":
            raise ValueError(f"pools are given, but runner is {self.runner}; set runner: workers, or remove pools")
        return self
