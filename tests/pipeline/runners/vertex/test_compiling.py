"""The specification of the demo: its tasks, machines, jobs, paths; the same bytes in every process."""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loading import LoadedConfig, load
from pipeline.errors import ConfigError
from pipeline.runners.vertex.check import spec_errors
from pipeline.runners.vertex.compiling import compile_job, compile_to

ROOT = Path(__file__).resolve().parents[4]
IMAGE = "europe-docker.pkg.dev/a-project/slipway/pipeline:1"
SET = ["vertex.root=gs://bucket/slipway", f"vertex.image={IMAGE}"]
GOOGLE = ["vertex.project=a-project", "vertex.region=europe-west4"]

# Which task waits for which: the pipeline on one screen.
TASKS = {
    "ExampleGen": [],
    "StatisticsGen": ["ExampleGen"],
    "SchemaGen": ["StatisticsGen"],
    "ExampleValidator": ["SchemaGen", "StatisticsGen"],
    "Transform": ["ExampleGen", "ExampleValidator", "SchemaGen"],
    "Tuner": ["ExampleGen", "Transform"],
    "Trainer": ["ExampleGen", "SchemaGen", "Transform", "Tuner"],
    "Resolver-model-blessing-resolver": [],
    "Resolver-model-resolver": [],
    "Evaluator": ["ExampleGen", "Resolver-model-resolver", "Trainer"],
    "InfraValidator": ["ExampleGen", "Trainer"],
    "Pusher": ["Evaluator", "ExampleGen", "InfraValidator", "Trainer"],
    "Optimizer": ["Evaluator", "ExampleGen", "Trainer", "Transform"],
    "EdgePusher": ["Evaluator", "ExampleGen", "InfraValidator", "Optimizer"],
    "FormPusher": ["Evaluator", "ExampleGen", "InfraValidator", "Optimizer"],
    "BulkInferrer": ["Evaluator", "ExampleGen", "Trainer"],
}


def digits(*values: str) -> LoadedConfig:
    return load(ROOT / "configs/digits.yaml", [*SET, *values])


@functools.lru_cache(maxsize=1)
def _demo() -> dict[str, Any]:
    return compile_job(digits().config)


def compiled(*values: str) -> dict[str, Any]:
    return compile_job(digits(*values).config) if values else copy.deepcopy(_demo())


def task(job: dict[str, Any], name: str) -> dict[str, Any]:
    return job["pipelineSpec"]["root"]["dag"]["tasks"][name]


def container(job: dict[str, Any], name: str) -> dict[str, Any]:
    return job["pipelineSpec"]["deploymentSpec"]["executors"][f"{name}_executor"]["container"]


def parameter(job: dict[str, Any], name: str, key: str) -> Any:
    return task(job, name)["inputs"]["parameters"][key]["runtimeValue"]["constant"]


def test_every_stage_is_a_task_that_waits_for_what_it_reads() -> None:
    job = compiled()
    found = {
        name: entry.get("dependentTasks", []) for name, entry in job["pipelineSpec"]["root"]["dag"]["tasks"].items()
    }
    assert found == TASKS
    assert {container(job, name)["image"] for name in TASKS if "esolver" not in name} == {IMAGE}
    assert spec_errors(job) == []


def test_what_outlives_a_run_lies_in_the_bucket() -> None:
    job = compiled()
    assert job["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/slipway/digits/artifacts"
    assert parameter(job, "ExampleGen", "ledger") == "/gcs/bucket/slipway/digits/splits.npz"
    assert parameter(job, "Pusher", "destination") == "/gcs/bucket/slipway/digits/served"
    assert json.loads(parameter(job, "ExampleGen", "settings"))["source"] == "digits"
    assert "settings_file" not in task(job, "ExampleGen")["inputs"]["parameters"]
    text = json.dumps(job)
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; import sys; from pipeline.config.loading import load; "
        "from pipeline.runners.vertex import compile_vertex; "
        "compile_vertex(load(sys.argv[1], sys.argv[3:]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(ROOT / "configs/digits.yaml"), str(tmp_path / "there"), *SET]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, cwd=tmp_path, timeout=300)
    here = compile_to(digits(), tmp_path / "here")
    assert [path.name for path in here] == ["digits.json", "digits.yaml"]
    for path in here:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


def test_version_2_0_has_its_own_form(tmp_path: Path) -> None:
    (path,) = compile_to(digits(), tmp_path, "2.0")
    job = json.loads(path.read_text("utf-8"))
    assert job["pipelineSpec"]["schemaVersion"] == "2.0.0"
    top_k = task(job, "Evaluator")["inputs"]["parameters"]["top_k"]
    assert top_k == {"runtimeValue": {"constantValue": {"intValue": "3"}}}
    assert spec_errors(job) == []


def test_a_stage_gets_its_machine() -> None:
    machine = "{Trainer: {cpu: 8, memory_gb: 30, accelerator: NVIDIA_TESLA_T4}, ExampleGen: {cpu: 2}}"
    job = compiled(f"vertex.machines={machine}")
    accelerator = {"type": "NVIDIA_TESLA_T4", "count": "1"}
    assert container(job, "Trainer")["resources"] == {"cpuLimit": 8, "memoryLimit": 30, "accelerator": accelerator}
    assert container(job, "ExampleGen")["resources"] == {"cpuLimit": 2}
    assert "resources" not in container(job, "Evaluator")


def test_labels_and_caching() -> None:
    job = compiled("vertex.labels={team: vision}", "vertex.caching=false")
    assert job["labels"]["team"] == "vision"
    assert not any("cachingOptions" in entry for entry in job["pipelineSpec"]["root"]["dag"]["tasks"].values())
    assert task(compiled(), "Trainer")["cachingOptions"] == {"enableCache": True}


def test_training_starts_a_job_of_its_own() -> None:
    training = "{machine_type: n1-standard-16, accelerator: NVIDIA_TESLA_T4, accelerators: 2, workers: 3, tuner: true}"
    account = "vertex.service_account=runner@a-project.iam.gserviceaccount.com"
    job = compiled(*GOOGLE, f"vertex.training={training}", account, "train.batch_size=48")
    arguments = container(job, "Trainer")["args"]
    assert arguments[1] == "tfx.extensions.google_cloud_ai_platform.trainer.executor.GenericExecutor"
    config = json.loads(parameter(job, "Trainer", "custom_config"))
    assert config["ai_platform_enable_vertex"] is True and config["ai_platform_vertex_region"] == "europe-west4"
    spec = config["ai_platform_training_args"]["job_spec"]
    assert spec["service_account"] == "runner@a-project.iam.gserviceaccount.com"
    assert [pool["replica_count"] for pool in spec["worker_pool_specs"]] == [1, 2]
    for pool in spec["worker_pool_specs"]:
        expected = {"machine_type": "n1-standard-16", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 2}
        assert pool["machine_spec"] == expected
        assert pool["container_spec"]["image_uri"] == IMAGE
    tuning = json.loads(parameter(job, "Tuner", "custom_config"))["ai_platform_tuning_args"]
    assert len(tuning["job_spec"]["worker_pool_specs"]) == 1


def test_an_endpoint_is_a_task_after_the_pusher() -> None:
    job = compiled(*GOOGLE, "vertex.endpoint={name: digits, image: 'eu.pkg.dev/serving:2', traffic_percent: 10}")
    assert task(job, "EndpointDeployer")["dependentTasks"] == ["Pusher"]
    assert "cachingOptions" not in task(job, "EndpointDeployer")
    assert json.loads(parameter(job, "EndpointDeployer", "deployment"))["traffic_percent"] == 10


def test_data_of_this_machine_have_another_name_there(shapes: Path) -> None:
    values = [f"data.source={shapes}", "transform.size=[16, 16]", "transform.channels=3"]
    with pytest.raises(ConfigError, match=r"a folder of this machine.*vertex.data_source"):
        compiled(*values)
    job = compiled(*values, "vertex.data_source=gs://bucket/pictures")
    assert json.loads(parameter(job, "ExampleGen", "settings"))["source"] == "/gcs/bucket/pictures"
    assert str(shapes) not in json.dumps(job)


def test_a_schema_of_a_person_travels_as_text(tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    schema.write_text('feature { name: "image" }', encoding="utf-8")
    job = compiled(f"data.schema_file={schema}")
    assert parameter(job, "SchemaGen", "text") == 'feature { name: "image" }'


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["vertex.training={}"], "vertex.project is not set"),
        (
            [*GOOGLE, "vertex.training={workers: 3, accelerator: NVIDIA_TESLA_T4}", "train.batch_size=32"],
            "3 devices can't share evenly; expected a multiple of 3, such as 30 or 33",
        ),
        ([*GOOGLE, "vertex.training={accelerator: NVIDIA_L4, accelerators: 8}", "train.batch_size=4"], "such as 8"),
        (["vertex.endpoint={name: e, image: i}"], "vertex.region is not set"),
        (["vertex.machines={BulkInferrer: {cpu: 2}}", "bulk_infer.enabled=false"], "doesn't have"),
        (["vertex.machines={Resolver: {cpu: 2}}"], "runs in no container|doesn't have"),
    ],
)
def test_what_can_not_run_there_is_refused(values: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        compiled(*values)


@pytest.mark.parametrize("field", ["root", "image"])
def test_what_is_missing_is_named(field: str) -> None:
    values = [value for value in SET if not value.startswith(f"vertex.{field}=")]
    remedy = rf"below `vertex:` in the YAML, or pass --set vertex\.{field}="
    with pytest.raises(ConfigError, match=rf"(?s)vertex\.{field} is not set.*{remedy}"):
        compile_job(load(ROOT / "configs/digits.yaml", values).config)


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="--out"):
        compile_to(digits(), tmp_path / "file")
