"""The specification for a cluster: no resolver, a volume in every container, paths on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.runners.kubeflow import compile_kubeflow
from pipeline.runners.kubeflow.compiling import compile_job
from pipeline.runners.vertex import spec as specs

ROOT = Path(__file__).resolve().parents[4]
SET = ["kubeflow.image=registry.example.org/slipway:1", "kubeflow.volume=slipway-claim"]


def compiled(*values: str) -> dict[str, Any]:
    return compile_job(load(ROOT / "configs/digits.yaml", [*SET, *values]).config)


def test_the_baseline_is_what_was_published() -> None:
    spec = compiled()["pipelineSpec"]
    assert not any("resolver" in executor for executor in spec["deploymentSpec"]["executors"].values())
    task = specs.tasks(spec)["Resolver"]
    published = {"runtimeValue": {"constant": "/slipway/digits/served"}}
    assert task["inputs"]["parameters"]["published"] == published
    assert "cachingOptions" not in task
    evaluator = specs.tasks(spec)["Evaluator"]["inputs"]["artifacts"]["baseline_model"]["taskOutputArtifact"]
    assert evaluator == {"producerTask": "Resolver", "outputArtifactKey": "model"}


def test_every_container_has_the_volume() -> None:
    job = compiled("kubeflow.mount=/data")
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    mounts = job["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert mounts == {name: {"pvcMount": [{"constant": "slipway-claim", "mountPath": "/data"}]} for name in executors}
    assert specs.volumes(job) == ["/data"]


def test_the_file_holds_two_documents_and_is_the_same_each_time(tmp_path: Path) -> None:
    loaded = load(ROOT / "configs/digits.yaml", [*SET, "kubeflow.root=minio://bucket/slipway"])
    (path,) = compile_kubeflow(loaded, tmp_path / "a")
    spec, platforms = yaml.safe_load_all(path.read_text("utf-8"))
    assert path.name == "digits.yaml"
    assert spec["defaultPipelineRoot"] == "minio://bucket/slipway/digits"
    assert set(platforms) == {"platforms"}
    assert specs.read(path)["pipelineSpec"] == spec
    assert compile_kubeflow(loaded, tmp_path / "b")[0].read_bytes() == path.read_bytes()


def test_without_a_root_the_cluster_chooses_its_own() -> None:
    assert "defaultPipelineRoot" not in compiled()["pipelineSpec"]


@pytest.mark.parametrize("field", ["image", "volume"])
def test_what_is_missing_is_named(field: str) -> None:
    values = [value for value in SET if not value.startswith(f"kubeflow.{field}=")]
    with pytest.raises(ConfigError, match=f"kubeflow.{field} is not set"):
        compile_job(load(ROOT / "configs/digits.yaml", values).config)


def test_what_needs_a_resolver_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tune\.mode is reuse"):
        compiled("tune.mode=reuse")
