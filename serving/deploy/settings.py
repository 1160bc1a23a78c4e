"""What the deployment files are made from.

Comes in: names and sizes, from the command line or a caller. Goes out: one checked, frozen object for the templates.
Called by `serving.deploy.generating`.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import ServingError

# The images that were current together with TensorFlow Serving 2.16; every one is pinned by its version.
TFSERVING_IMAGE = "tensorflow/serving:2.16.1"
TFSERVING_GPU_IMAGE = "tensorflow/serving:2.16.1-gpu"

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?")
Image = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9._-]+$")]


class DeploySettings(BaseModel):
    """Everything that differs between two deployments; all the rest stands in the templates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name of the model, as clients ask for it.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    namespace: str = Field("slipway", description="Kubernetes namespace.")
    models: str = Field("./served", description="Folder of the published versions on the compose host.", min_length=1)
    server_image: Image = Field("slipway-server:0.1.0", description="Image of the embedded model server.")
    gateway_image: Image = Field("slipway-gateway:0.1.0", description="Image of gateway and workers.")
    host: str = Field("models.example.com", description="Host name under which clients reach the gateway.")
    replicas: int = Field(2, ge=1, le=1000, description="Fewest replicas of the model server and of the gateway.")
    max_replicas: int = Field(10, ge=1, le=1000, description="Most replicas, when the load is high.")
    cpus: float = Field(2.0, gt=0, le=256, description="CPU cores of one model server.")
    memory_gib: int = Field(2, ge=1, le=4096, description="Memory of one model server, GiB.")
    storage_gib: int = Field(10, ge=1, le=100_000, description="Size of the volume of versions, GiB.")
    storage_uri: str | None = Field(None, description="Bucket or volume for KServe, such as gs://bucket/served.")

    @property
    def slug(self) -> str:
        """The model's name as a DNS label, for Kubernetes objects."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @model_validator(mode="after")
    def _fits(self) -> DeploySettings:
        if self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}; expected {self.replicas} (replicas) or more")
        for field, value in (("namespace", self.namespace), ("name", self.slug)):
            if not _DNS_LABEL.fullmatch(value):
                raise ValueError(
                    f"{field} gives {value!r} as a name in Kubernetes; expected a letter, then letters, digits and "
                    "hyphens, 53 characters at most"
                )
        if not all(_DNS_LABEL.fullmatch(part) for part in self.host.split(".")):
            raise ValueError(f"host is {self.host!r}; expected a host name such as models.example.com")
        if any(character in self.models for character in "\n\r:\0"):
            raise ValueError("models is a path with a colon or line break, which compose cannot mount; rename it")
        return self


def settings(**values: object) -> DeploySettings:
    """Check values from outside.

    Raises:
        ServingError: one is wrong; says which, what was given and what is expected.
    """
    try:
        return DeploySettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        given = f" (got {first['input']!r})" if where else ""
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ServingError(f"{where}: {message}{given}." if where else f"{message}.") from error
