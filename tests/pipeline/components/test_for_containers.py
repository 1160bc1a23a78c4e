"""Components that only remote targets have: a baseline without a resolver, a schema without a file, an endpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from pipeline.components import endpoint_deployer, inline_schema, served_baseline
from pipeline.components.artifacts import NO_BASELINE
from pipeline.evaluation.verdict import read_verdict
from pipeline.runners.vertex.deployment import Outcome
from serving.publish import publish
from tests.serving.saved_models import make_plain_model


def candidate(folder: Path, content: str) -> standard_artifacts.Model:
    model = standard_artifacts.Model()
    model.uri = str(folder)
    make_plain_model(folder / "Format-Serving", content.encode())
    return model


def baseline(tmp_path: Path, model: standard_artifacts.Model) -> standard_artifacts.Model:
    found = standard_artifacts.Model()
    found.uri = str(tmp_path / "baseline")
    executor = served_baseline.Executor()
    executor.Do({"candidate": [model]}, {"model": [found]}, {"published": str(tmp_path / "served")})
    return found


def published(tmp_path: Path, content: str) -> None:
    publish(make_plain_model(tmp_path / f"of-{content}", content.encode()), tmp_path / "served", name="pets")


def test_the_baseline_is_the_newest_version_that_is_not_the_candidate(tmp_path: Path) -> None:
    for content in ("a", "b"):
        published(tmp_path, content)
    found = baseline(tmp_path, candidate(tmp_path / "model", "b"))
    assert found.get_string_custom_property("version") == "1"
    assert found.get_int_custom_property(NO_BASELINE) == 0
    assert (Path(found.uri) / "Format-Serving" / "saved_model.pb").read_text() == (
        tmp_path / "of-a" / "saved_model.pb"
    ).read_text()
    assert not (Path(found.uri) / "Format-Serving" / "manifest.json").exists()


def test_a_new_candidate_is_compared_with_what_is_served(tmp_path: Path) -> None:
    for content in ("a", "b"):
        published(tmp_path, content)
    found = baseline(tmp_path, candidate(tmp_path / "model", "c"))
    assert found.get_string_custom_property("version") == "2"


@pytest.mark.parametrize("contents", [(), ("a",)])
def test_without_another_version_there_is_no_baseline(tmp_path: Path, contents: tuple[str, ...]) -> None:
    for content in contents:
        published(tmp_path, content)
    assert baseline(tmp_path, candidate(tmp_path / "model", "a")).get_int_custom_property(NO_BASELINE) == 1


def test_a_damaged_version_is_no_baseline(tmp_path: Path) -> None:
    published(tmp_path, "a")
    published(tmp_path, "b")
    (tmp_path / "served" / "2" / "saved_model.pb").write_text("changed")
    found = baseline(tmp_path, candidate(tmp_path / "model", "c"))
    assert found.get_string_custom_property("version") == "1"


def test_a_schema_is_written_as_it_is(tmp_path: Path) -> None:
    schema = standard_artifacts.Schema()
    schema.uri = str(tmp_path)
    inline_schema.Executor().Do({}, {"schema": [schema]}, {"text": "feature { name: 'ä' }"})
    assert (tmp_path / "schema.pbtxt").read_text(encoding="utf-8") == "feature { name: 'ä' }"


def deployed(tmp_path: Path, pushed: int) -> standard_artifacts.PushedModel:
    model, result = standard_artifacts.PushedModel(), standard_artifacts.PushedModel()
    model.set_int_custom_property("pushed", pushed)
    model.set_string_custom_property("pushed_destination", "/gcs/bucket/served/7")
    model.set_string_custom_property("pushed_version", "7")
    result.uri = str(tmp_path / "deployed")
    os.makedirs(result.uri)
    text = (
        '{"project": "p", "region": "l", "name": "e", "image": "i", "machine_type": "m", "accelerator": null, '
        '"accelerators": 1, "min_replicas": 1, "max_replicas": 1, "traffic_percent": 5, "undeploy_idle": true}'
    )
    executor = endpoint_deployer.Executor()
    executor.Do({"pushed_model": [model]}, {"deployed_model": [result]}, {"deployment": text})
    return result


def test_what_was_pushed_is_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def deploy(deployment: Any, destination: str, version: int) -> Outcome:
        calls.append((deployment.traffic_percent, destination, version))
        return Outcome("endpoints/1", "models/2", "version 7 answers 5 percent")

    monkeypatch.setattr(endpoint_deployer, "deploy", deploy)
    result = deployed(tmp_path, 1)
    assert calls == [(5, "/gcs/bucket/served/7", 7)]
    assert result.get_string_custom_property("pushed_destination") == "endpoints/1"
    verdict = read_verdict(result.uri)
    assert verdict is not None and verdict.sentence == "version 7 answers 5 percent"


def test_what_was_refused_is_not_deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_deployer, "deploy", lambda *_: pytest.fail("deployed what was refused"))
    result = deployed(tmp_path, 0)
    assert result.get_int_custom_property("pushed") == 0
    verdict = read_verdict(result.uri)
    assert verdict is not None and not verdict.passed
