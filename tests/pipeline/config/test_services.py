"""The sections `vertex` and `kubeflow`: what they refuse, with a sentence that says what to write."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.kubeflow import KubeflowSettings
from pipeline.config.vertex import VertexSettings


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"root": "/local/folder"}, "gs://my-bucket/slipway"),
        ({"root": "gs://"}, "folder of a bucket"),
        ({"root": "gs://UPPER/x"}, "folder of a bucket"),
        ({"root": "gs://bucket/../other"}, "folder of a bucket"),
        ({"root": "gs://bucket//x"}, "folder of a bucket"),
        ({"root": "s3://bucket/x"}, "gs://"),
        ({"labels": {"Team": "x"}}, "lowercase"),
        ({"labels": {"team": "x" * 64}}, "at most 63"),
        ({"labels": {f"k{n}": "v" for n in range(65)}}, "at most 64"),
        ({"machines": {"Trainr": {"cpu": 4.0}}}, "Trainer"),
        ({"machines": {"Trainer": {"cpu": 0.0}}}, "greater than 0"),
        ({"schedule": {"cron": "every day"}}, "minute, hour"),
        ({"service_account": "nobody"}, "pattern"),
        ({"endpoint": {"name": "e", "image": "i", "min_replicas": 3}}, "min <= max"),
        ({"endpoint": {"name": "e", "image": "i", "traffic_percent": 101}}, "100"),
        ({"training": {"workers": 0}}, "greater than or equal to 1"),
        ({"schema_version": "3.0"}, "2.1"),
    ],
)
def test_vertex_refuses(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        VertexSettings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"root": "/mnt/volume"}, "s3://my-bucket/slipway"),
        ({"host": "localhost:8080"}, "pattern"),
        ({"mount": "/"}, "absolute path"),
        ({"mount": "relative"}, "absolute path"),
        ({"mount": "/a/../b"}, "absolute path"),
        ({"machines": {"Nobody": {}}}, "Trainer"),
    ],
)
def test_kubeflow_refuses(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        KubeflowSettings.model_validate(values)


def test_nothing_has_to_be_set() -> None:
    assert VertexSettings.model_validate({}).project is None
    assert KubeflowSettings.model_validate({}).volume is None


@pytest.mark.parametrize("cron", ["0 4 * * 1", "TZ=Europe/Berlin */15 0-6 1,15 * *", " 0 4 * * MON "])
def test_cron_of_five_fields_is_taken(cron: str) -> None:
    settings = VertexSettings.model_validate({"schedule": {"cron": cron}})
    assert settings.schedule is not None and settings.schedule.cron == cron.strip()


def test_a_root_loses_its_last_slash() -> None:
    assert VertexSettings.model_validate({"root": "gs://bucket/a/"}).root == "gs://bucket/a"
    assert KubeflowSettings.model_validate({"root": "minio://bucket/a/"}).root == "minio://bucket/a"
