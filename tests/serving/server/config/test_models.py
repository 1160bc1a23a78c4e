"""Model configs: what is accepted, and TensorFlow Serving's words for what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.server.config.models import VersionPolicy, check_same_platforms, single_model, to_models
from serving.server.status import Code, StatusError


def _config(text: str) -> Any:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def _one(fields: str) -> Any:
    return _config(f'model_config_list {{ config {{ name: "m" base_path: "/m" {fields} }} }}')


_TF = 'model_platform: "tensorflow"'


def test_a_single_model() -> None:
    model = to_models(single_model("pets", "/served/pets"))["pets"]
    assert (model.name, model.base_path, model.platform) == ("pets", Path("/served/pets"), "tensorflow")
    assert model.policy == VersionPolicy("latest", 1)
    assert model.labels == {}


@pytest.mark.parametrize(
    ("policy", "expected", "words"),
    [
        ("", VersionPolicy("latest", 1), "latest 1"),
        ("model_version_policy { latest { num_versions: 3 } }", VersionPolicy("latest", 3), "latest 3"),
        ("model_version_policy { latest { num_versions: 0 } }", VersionPolicy("latest", 1), "latest 1"),
        ("model_version_policy { all {} }", VersionPolicy("all"), "all versions"),
        (
            "model_version_policy { specific { versions: [2, 1] } }",
            VersionPolicy("specific", versions=frozenset({1, 2})),
            "versions 1, 2",
        ),
    ],
)
def test_policies(policy: str, expected: VersionPolicy, words: str) -> None:
    found = to_models(_one(f"{_TF} {policy}"))["m"].policy
    assert found == expected
    assert found.describe() == words


def test_labels_and_old_model_type() -> None:
    model = to_models(_one('model_type: TENSORFLOW version_labels { key: "canary" value: 4 }'))["m"]
    assert model.platform == "tensorflow"
    assert model.labels == {"canary": 4}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            "",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform.",
        ),
        (f"model_type: TENSORFLOW {_TF}", "Illegal setting both ModelServerConfig::model_type (deprecated) and"),
        ("model_type: OTHER", "ModelServerConfig::model_type choice OTHER not supported."),
        ('model_platform: "torch"', "Model m requests unsupported platform torch"),
    ],
)
def test_platforms_that_are_refused(fields: str, words: str) -> None:
    with pytest.raises(StatusError) as caught:
        to_models(_one(fields))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("relative/m", "Expected model m to have an absolute path or URI; got base_path()=relative/m"),
        ("", "Expected model m to have an absolute path or URI; got base_path()="),
        ("gs://bucket/m", "reads local directories only"),
    ],
)
def test_base_paths_that_are_refused(path: str, words: str) -> None:
    with pytest.raises(StatusError) as caught:
        to_models(_config(f'model_config_list {{ config {{ name: "m" base_path: "{path}" {_TF} }} }}'))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert words in caught.value.message


def test_a_file_uri_is_local() -> None:
    assert to_models(single_model("m", "file:///served/m"))["m"].base_path == Path("/served/m")


def test_lists_that_are_refused() -> None:
    entry = f'config {{ name: "m" base_path: "/m" {_TF} }}'
    with pytest.raises(StatusError, match="Illegal to list model m multiple times in config list"):
        to_models(_config(f"model_config_list {{ {entry} {entry} }}"))
    with pytest.raises(StatusError, match="has no name"):
        to_models(_config(f'model_config_list {{ config {{ base_path: "/m" {_TF} }} }}'))
    with pytest.raises(StatusError, match="does not yet support custom model config"):
        to_models(_config("custom_model_config { }"))
    with pytest.raises(StatusError, match="Cannot find LogCollector::Factory for type: files") as caught:
        to_models(_one(_TF + ' logging_config { log_collector_config { type: "files" } }'))
    assert caught.value.code is Code.NOT_FOUND


def test_a_platform_never_changes() -> None:
    old = to_models(_one(_TF))
    check_same_platforms(old, old)
    new = {"m": type(old["m"])("m", Path("/m"), platform="other")}
    with pytest.raises(
        StatusError, match=r"Illegal to change a model's platform\. For model m platform was tensorflow"
    ):
        check_same_platforms(old, new)
