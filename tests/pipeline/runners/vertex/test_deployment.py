"""Deployment to an endpoint: the requests that Google's clients would send, on clients that remember them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import aiplatform

from pipeline.config.vertex import VertexSettings
from pipeline.errors import ConfigError
from pipeline.runners.vertex.deployment import Deployment, deploy

SECTION: dict[str, Any] = {
    "project": "a-project",
    "region": "europe-west4",
    "service_account": "runner@a-project.iam.gserviceaccount.com",
    "labels": {"team": "vision"},
    "endpoint": {"name": "digits", "image": "eu.pkg.dev/serving:2", "traffic_percent": 10, "max_replicas": 3},
}


class Endpoint:
    """An endpoint that remembers what is deployed to it and splits traffic as Google's client says."""

    resource_name = "projects/1/locations/here/endpoints/5"

    def __init__(self) -> None:
        self.deployed: list[Any] = []
        self.traffic_split: dict[str, int] = {}
        self.requests: list[dict[str, Any]] = []

    def list_models(self) -> list[Any]:
        return list(self.deployed)

    def deploy(self, model: Any, **options: Any) -> None:
        self.requests.append(options)
        number = str(len(self.requests))
        share = options["traffic_percentage"]
        self.traffic_split = {k: v * (100 - share) // 100 for k, v in self.traffic_split.items()} | {number: share}
        name = options["deployed_model_display_name"]
        self.deployed.append(SimpleNamespace(id=number, display_name=name, model=model.resource_name))

    def undeploy(self, number: str) -> None:
        self.deployed = [model for model in self.deployed if model.id != number]
        self.traffic_split.pop(number, None)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    endpoint, uploads, made = Endpoint(), [], []

    def upload(**options: Any) -> Any:
        uploads.append(options)
        return SimpleNamespace(resource_name=f"models/{len(uploads)}", display_name=options["display_name"])

    def create(**options: Any) -> Endpoint:
        made.append(options)
        return endpoint

    monkeypatch.setattr(aiplatform, "init", lambda **_: None)
    listed = SimpleNamespace(list=lambda **_: [endpoint] if made else [], create=create)
    monkeypatch.setattr(aiplatform, "Endpoint", listed)
    monkeypatch.setattr(aiplatform, "Model", SimpleNamespace(list=lambda **_: [], upload=upload))
    return SimpleNamespace(endpoint=endpoint, uploads=uploads, made=made)


def deployment(**changes: Any) -> Deployment:
    section = {**SECTION, "endpoint": {**SECTION["endpoint"], **changes}}
    found = Deployment.of(VertexSettings.model_validate(section))
    assert found is not None
    return Deployment.from_json(found.to_json())


def test_the_first_model_gets_everything(service: SimpleNamespace) -> None:
    outcome = deploy(deployment(), "/gcs/bucket/digits/served/1", 1)
    assert service.made == [{"display_name": "digits", "labels": {"team": "vision"}}]
    (upload,) = service.uploads
    assert upload["artifact_uri"] == "gs://bucket/digits/served/1"
    assert upload["serving_container_image_uri"] == "eu.pkg.dev/serving:2"
    (request,) = service.endpoint.requests
    assert request["traffic_percentage"] == 100
    assert (request["min_replica_count"], request["max_replica_count"]) == (1, 3)
    assert request["service_account"] == SECTION["service_account"]
    assert request["accelerator_type"] is None and request["accelerator_count"] is None
    assert outcome.sentence == "version 1 answers 100 percent of the requests to 'digits'"


def test_a_later_model_gets_its_share_and_the_others_keep_theirs(service: SimpleNamespace) -> None:
    deploy(deployment(), "/gcs/bucket/digits/served/1", 1)
    deploy(deployment(), "/gcs/bucket/digits/served/2", 2)
    assert service.endpoint.traffic_split == {"1": 90, "2": 10}
    assert len(service.made) == 1


def test_a_version_is_never_deployed_twice(service: SimpleNamespace) -> None:
    deploy(deployment(), "/gcs/bucket/digits/served/1", 1)
    outcome = deploy(deployment(), "/gcs/bucket/digits/served/1", 1)
    assert len(service.endpoint.requests) == len(service.uploads) == 1
    assert "already deployed" in outcome.sentence


@pytest.mark.parametrize(("undeploy_idle", "left"), [(True, ["digits-v2"]), (False, ["digits-v1", "digits-v2"])])
def test_models_without_a_share_are_taken_off(service: SimpleNamespace, undeploy_idle: bool, left: list[str]) -> None:
    everything = deployment(traffic_percent=100, undeploy_idle=undeploy_idle)
    deploy(everything, "/gcs/bucket/digits/served/1", 1)
    deploy(everything, "/gcs/bucket/digits/served/2", 2)
    assert [model.display_name for model in service.endpoint.deployed] == left


def test_a_model_that_gets_nothing_yet_stays(service: SimpleNamespace) -> None:
    deploy(deployment(), "/gcs/bucket/digits/served/1", 1)
    deploy(deployment(traffic_percent=0), "/gcs/bucket/digits/served/2", 2)
    assert [model.display_name for model in service.endpoint.deployed] == ["digits-v1", "digits-v2"]
    assert service.endpoint.traffic_split == {"1": 100, "2": 0}


def test_a_refusal_is_one_sentence(service: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise exceptions.ResourceExhausted("quota of n1-standard-2 machines")

    monkeypatch.setattr(service.endpoint, "deploy", refuse, raising=False)
    with pytest.raises(ConfigError, match="quota of project 'a-project' is used up"):
        deploy(deployment(), "/gcs/bucket/digits/served/1", 1)


def test_no_endpoint_means_no_deployment() -> None:
    assert Deployment.of(VertexSettings.model_validate({})) is None
