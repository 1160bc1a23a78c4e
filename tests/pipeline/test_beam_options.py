"""Beam reads what the config says, by its own parser; what is missing or unknown is named before a run."""

from __future__ import annotations

import re

import pytest
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.beam_options import _SET_HERE, WORKERS_RUNNER, beam_args, known_options
from pipeline.config.beam import BeamSettings, is_address
from pipeline.config.config import Config
from pipeline.errors import ConfigError
from pipeline.runners.beam.runner import WorkersOptions, WorkersRunner

DATAFLOW = {"project": "my-project-1", "region": "europe-west4", "temp_location": "gs://my-bucket/tmp"}


def config(vertex: dict | None = None, **beam) -> Config:
    whole = {"name": "demo", "data": {"source": "digits"}, "transform": {"size": [8, 8]}, "beam": beam}
    return Config.model_validate({**whole, "vertex": vertex or {}})


def parsed(*, here: bool = True, vertex: dict | None = None, **beam) -> PipelineOptions:
    """Return what Beam reads, after a check that it leaves nothing over."""
    args = beam_args(config(vertex, **beam), here=here)
    known = known_options()
    assert all(re.match(r"--([a-z_]+)", arg)[1] in known for arg in args)
    return PipelineOptions(args)


def test_the_default_stays_in_this_process():
    options = parsed()
    assert options.view_as(StandardOptions).runner is None
    assert options.view_as(DirectOptions).direct_num_workers == 1
    assert options.view_as(DirectOptions).direct_running_mode == "in_memory"


def test_workers_of_this_machine_and_of_pools():
    options = parsed(runner="workers", workers=4)
    assert options.view_as(StandardOptions).runner == WORKERS_RUNNER
    assert f"{WorkersRunner.__module__}.{WorkersRunner.__qualname__}" == WORKERS_RUNNER
    assert options.view_as(WorkersOptions).worker_processes == 4
    assert options.view_as(WorkersOptions).worker_pools is None
    pools = [f"host-{n}:50000" for n in range(3)]
    options = parsed(runner="workers", pools=pools, driver_host="10.0.0.1", driver_port=5000, worker_timeout_seconds=7)
    view = options.view_as(WorkersOptions)
    assert (view.worker_pools, view.driver_host, view.driver_port) == (pools, "10.0.0.1", 5000)
    assert view.worker_timeout == 7
    assert view.worker_processes == 3, "each pool gives a worker at least"


def test_portable_flink_and_spark():
    options = parsed(
        runner="portable", job_endpoint="jobs:8099", environment="external", environment_config="pool:50000"
    )
    portable = options.view_as(PortableOptions)
    assert options.view_as(StandardOptions).runner == "PortableRunner"
    assert (portable.job_endpoint, portable.environment_type) == ("jobs:8099", "EXTERNAL")
    assert (portable.environment_config, portable.sdk_worker_parallelism) == ("pool:50000", "2")
    options = parsed(runner="flink", master="flink:8081", workers=8, environment="docker", image="me/image:1")
    assert options.view_as(FlinkRunnerOptions).flink_master == "flink:8081"
    assert options.view_as(FlinkRunnerOptions).parallelism == 8
    assert options.view_as(PortableOptions).environment_config == "me/image:1"
    options = parsed(runner="spark", master="spark://host:7077")
    assert options.view_as(SparkRunnerOptions).spark_master_url == "spark://host:7077"
    assert options.view_as(PortableOptions).environment_type == "LOOPBACK"


def test_dataflow_with_an_image_or_with_setup_py_and_never_both(tmp_path):
    setup = tmp_path / "setup.py"
    setup.write_text("", encoding="utf-8")
    with_image = parsed(here=False, runner="dataflow", workers=3, image="eu.gcr.io/p/image:1", dataflow=DATAFLOW)
    cloud = with_image.view_as(GoogleCloudOptions)
    assert (cloud.project, cloud.region, cloud.temp_location) == tuple(DATAFLOW.values())
    assert with_image.view_as(WorkerOptions).num_workers == 3
    assert with_image.view_as(WorkerOptions).sdk_container_image == "eu.gcr.io/p/image:1"
    assert with_image.view_as(SetupOptions).setup_file is None
    with_setup = parsed(here=False, runner="dataflow", setup_file=str(setup), dataflow=DATAFLOW)
    assert with_setup.view_as(SetupOptions).setup_file == str(setup)
    assert with_setup.view_as(WorkerOptions).sdk_container_image is None
    with pytest.raises(ValidationError, match="expected one of them"):
        BeamSettings.model_validate({"image": "a", "setup_file": "b"})


def test_dataflow_takes_from_vertex_what_is_the_same_there():
    vertex = {
        "project": "my-project-1",
        "region": "europe-west4",
        "root": "gs://my-bucket/slipway",
        "image": "image:1",
        "service_account": "sa@my-project-1.iam.gserviceaccount.com",
        "labels": {"team": "vision"},
    }
    machine = {"machine_type": "n2-standard-4", "most_workers": 20}
    options = parsed(here=False, vertex=vertex, runner="dataflow", dataflow=machine)
    cloud, worker = options.view_as(GoogleCloudOptions), options.view_as(WorkerOptions)
    assert (cloud.project, cloud.temp_location) == ("my-project-1", "gs://my-bucket/slipway/tmp")
    assert cloud.service_account_email == vertex["service_account"]
    assert cloud.labels == ["team=vision"]
    assert (worker.sdk_container_image, worker.machine_type, worker.max_num_workers) == ("image:1", "n2-standard-4", 20)


def test_beam_itself_finds_nothing_wrong_with_dataflow_options():
    args = beam_args(config(runner="dataflow", image="image:1", dataflow=DATAFLOW), here=False)

    class DataflowRunner:
        """Beam's validator looks at the name only; the real one needs packages of Google's."""

    assert PipelineOptionsValidator(PipelineOptions(args), DataflowRunner()).validate() == []


@pytest.mark.parametrize(
    ("beam", "sentences"),
    [
        ({"runner": "dataflow"}, ["needs project", "needs region", "needs temp_location", "beam.image"]),
        ({"runner": "portable"}, ["beam.job_endpoint is not set"]),
        ({"runner": "flink"}, ["beam.master is not set"]),
        ({"runner": "spark", "master": "m", "environment": "external"}, ["beam.environment_config is not set"]),
        ({"runner": "flink", "master": "m", "environment_config": "x"}, ["beam.environment is loopback"]),
        ({"setup_file": "no/such/setup.py"}, ["there is no such file"]),
        (
            {"options": {"num_workrs": 3}},
            ["beam.options.num_workrs: Beam has no such option; did you mean num_workers"],
        ),
        ({"options": {"num_workers": 3}}, ["set beam.workers"]),
        ({"options": {"no_use_public_ips": "yes"}}, ["expected true or false, it is a switch"]),
    ],
)
def test_what_is_missing_or_unknown_is_named(beam, sentences):
    with pytest.raises(ConfigError) as caught:
        beam_args(config(**beam))
    for sentence in sentences:
        assert sentence in str(caught.value)


def test_dataflow_from_this_machine_needs_beams_google_packages(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"install apache-beam\[gcp\]"):
        beam_args(config(runner="dataflow", image="image:1", dataflow=DATAFLOW))


def test_further_options_reach_beam():
    further = {"experiments": ["a", "b=c"], "no_use_public_ips": True, "number_of_worker_harness_threads": 3}
    options = parsed(options=further)
    everything = options.get_all_options()
    assert everything["experiments"] == ["a", "b=c"]
    assert everything["use_public_ips"] is False
    assert everything["number_of_worker_harness_threads"] == 3
    assert parsed(options={"no_use_public_ips": False}).view_as(WorkerOptions).use_public_ips is None


def test_every_option_with_a_key_of_its_own_is_one_of_beams():
    assert set(_SET_HERE) <= set(known_options())


@pytest.mark.parametrize("pools", [["host"], ["host:0"], ["host:99999"], ["a b:1"], [":1"], ["h:1", "h:1"]])
def test_pools_are_addresses_that_stand_there_once(pools):
    with pytest.raises(ValidationError):
        BeamSettings.model_validate({"runner": "workers", "pools": pools})


def test_pools_belong_to_the_runner_workers():
    with pytest.raises(ValidationError, match="set runner: workers"):
        BeamSettings.model_validate({"pools": ["host:1"]})


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30), st.integers(-10, 10**6))
def test_an_address_is_a_host_and_a_port(host, port):
    valid = is_address(f"{host}:{port}")
    assert valid == (is_address(f"{host}:1") and 0 < port <= 65_535 and len(str(port)) <= 5)
    if valid:
        assert not set(host) & set(" /,@")


@given(st.integers(1, 1000), st.lists(st.integers(1, 65_535), unique=True, max_size=5))
def test_workers_are_never_fewer_than_pools(workers, ports):
    pools = [f"host:{port}" for port in ports]
    options = PipelineOptions(beam_args(config(runner="workers", workers=workers, pools=pools)))
    assert options.view_as(WorkersOptions).worker_processes == max(workers, len(pools))
    assert (options.view_as(WorkersOptions).worker_pools or []) == pools
