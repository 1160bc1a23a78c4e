"""A pushed model behind an endpoint of Vertex AI, with its share of the requests.

Comes in: where the version lies, and what the section `vertex.endpoint` says. Goes out: the endpoint and the model.
Called by the stage EndpointDeployer in its container. A version that is deployed already is left as it is, so a stage
that is started again does nothing twice.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.vertex import VertexSettings
from pipeline.mounts import remote_uri
from pipeline.runners.vertex.errors import explained


@dataclass(frozen=True)
class Deployment:
    """What EndpointDeployer has to know; the fields of `vertex.endpoint`, and whose endpoint it is."""

    project: str
    region: str
    name: str
    image: str
    machine_type: str
    accelerator: str | None
    accelerators: int
    min_replicas: int
    max_replicas: int
    traffic_percent: int
    undeploy_idle: bool
    service_account: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, vertex: VertexSettings) -> Deployment | None:
        """Return the deployment that a section asks for, with project and region; None if it asks for none."""
        if vertex.endpoint is None:
            return None
        fields = vertex.endpoint.model_dump(mode="json")
        account, labels = vertex.service_account, dict(vertex.labels)
        return cls(str(vertex.project), str(vertex.region), **fields, service_account=account, labels=labels)

    def to_json(self) -> str:
        """Return the deployment as text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Deployment:
        """Return the deployment from `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Outcome:
    """What was deployed where: resource names, and a sentence."""

    endpoint: str
    model: str
    sentence: str


def deploy(deployment: Deployment, destination: str, version: int) -> Outcome:
    """Upload a version and deploy it.

    Args:
        deployment: where and with which share.
        destination: folder of the version, as its container sees it.
        version: its number.

    Raises:
        ConfigError: the service refuses, or can't be reached.
    """
    from google.cloud import aiplatform

    doing = f"deploying version {version} to the endpoint {deployment.name!r} of project {deployment.project!r}"
    with explained(doing, deployment.project, deployment.region):
        aiplatform.init(project=deployment.project, location=deployment.region)
        endpoint = _endpoint(aiplatform, deployment)
        name = f"{deployment.name}-v{version}"
        there = [model for model in endpoint.list_models() if model.display_name == name]
        if there:
            sentence = f"version {version} is already deployed to {deployment.name!r}"
            return Outcome(endpoint.resource_name, there[0].model, sentence)
        model = _model(aiplatform, deployment, destination, name)
        share = _roll_out(endpoint, model, deployment, name)
        if deployment.undeploy_idle:
            _undeploy_idle(endpoint, name)
    sentence = f"version {version} answers {share} percent of the requests to {deployment.name!r}"
    return Outcome(endpoint.resource_name, model.resource_name, sentence)


def _endpoint(aiplatform: Any, deployment: Deployment) -> Any:
    """Return the endpoint of the name, made if there is none."""
    found = aiplatform.Endpoint.list(filter=f'display_name="{deployment.name}"', order_by="create_time")
    return found[0] if found else aiplatform.Endpoint.create(display_name=deployment.name, labels=deployment.labels)


def _model(aiplatform: Any, deployment: Deployment, destination: str, name: str) -> Any:
    """Return the version in the model registry, uploaded unless an earlier attempt did."""
    found = aiplatform.Model.list(filter=f'display_name="{name}"', order_by="create_time")
    if found:
        return found[0]
    return aiplatform.Model.upload(
        display_name=name,
        artifact_uri=remote_uri(destination),
        serving_container_image_uri=deployment.image,
        labels=deployment.labels,
    )


def _roll_out(endpoint: Any, model: Any, deployment: Deployment, name: str) -> int:
    """Deploy a model and return its share in percent; the first one behind an endpoint gets everything."""
    share = deployment.traffic_percent if endpoint.traffic_split else 100
    endpoint.deploy(
        model,
        deployed_model_display_name=name,
        traffic_percentage=share,
        machine_type=deployment.machine_type,
        min_replica_count=deployment.min_replicas,
        max_replica_count=deployment.max_replicas,
        accelerator_type=deployment.accelerator,
        accelerator_count=deployment.accelerators if deployment.accelerator else None,
        service_account=deployment.service_account,
    )
    return share


def _undeploy_idle(endpoint: Any, newest: str) -> None:
    """Take models without a share of the requests off an endpoint, but not the newest."""
    shares = dict(endpoint.traffic_split)
    for model in endpoint.list_models():
        if not shares.get(model.id) and model.display_name != newest:
            endpoint.undeploy(model.id)
