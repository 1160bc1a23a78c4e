"""Beam's own options from the section `beam`: what `--runner` and its kin say for each engine.

Comes in: the config. Goes out: the `beam_pipeline_args` of the pipeline, checked: no engine lacks what it needs,
and Beam knows every option. Called by `pipeline.graph`, which all targets share.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.beam import BeamSettings
    from pipeline.config.config import Config

IN_PROCESS = ("--direct_num_workers=1", "--direct_running_mode=in_memory", "--sdk_container_image=unused")
"""The engine `direct`: this process alone.

The image is never used, but without one TFX builds a source package of itself for remote workers, 2 s per stage.
"""

WORKERS_RUNNER = "pipeline.runners.beam.runner.WorkersRunner"

_ENVIRONMENTS = {"loopback": "LOOPBACK", "external": "EXTERNAL", "docker": "DOCKER", "process": "PROCESS"}

_SET_HERE = {
    "runner": "beam.runner",
    "worker_processes": "beam.workers",
    "direct_num_workers": "beam.workers",
    "direct_running_mode": "beam.runner",
    "num_workers": "beam.workers",
    "parallelism": "beam.workers",
    "sdk_worker_parallelism": "beam.workers",
    "job_endpoint": "beam.job_endpoint",
    "environment_type": "beam.environment",
    "environment_config": "beam.environment_config",
    "flink_master": "beam.master",
    "spark_master_url": "beam.master",
    "sdk_container_image": "beam.image",
    "worker_harness_container_image": "beam.image",
    "setup_file": "beam.setup_file",
    "project": "beam.dataflow.project",
    "region": "beam.dataflow.region",
    "temp_location": "beam.dataflow.temp_location",
    "service_account_email": "beam.dataflow.service_account",
    "machine_type": "beam.dataflow.machine_type",
    "worker_machine_type": "beam.dataflow.machine_type",
    "max_num_workers": "beam.dataflow.most_workers",
    "worker_pool": "beam.pools",
    "driver_host": "beam.driver_host",
    "driver_port": "beam.driver_port",
    "worker_timeout": "beam.worker_timeout_seconds",
}
"""Options of Beam that have a key of their own, which is where they belong."""


def beam_args(config: Config, *, here: bool = True) -> list[str]:
    """Return Beam's arguments for the engine that the config names.

    Args:
        config: the config.
        here: whether the pipeline is driven by this machine, which then must have what the engine needs.

    Raises:
        ConfigError: something that the engine needs is missing, or there is no such option.
    """
    settings = config.beam
    if settings.runner == "direct":
        args = list(IN_PROCESS)
    elif settings.runner == "workers":
        args = _workers(settings)
    elif settings.runner == "dataflow":
        args = _dataflow(config, here)
    else:
        args = _portable(settings)
    if settings.setup_file is not None and here and not os.path.isfile(settings.setup_file):
        raise ConfigError(
            f"beam.setup_file is {settings.setup_file!r}; there is no such file. Expected the setup.py of this project"
        )
    return args + _further(settings)


def _workers(settings: BeamSettings) -> list[str]:
    """Return the arguments of our own runner; pools that are given bring workers, one each at least."""
    args = [
        f"--runner={WORKERS_RUNNER}",
        f"--worker_processes={max(settings.workers, len(settings.pools))}",
        "--sdk_container_image=unused",
        f"--worker_timeout={settings.worker_timeout_seconds}",
        *(f"--worker_pool={pool}" for pool in settings.pools),
    ]
    if settings.driver_host is not None:
        args.append(f"--driver_host={settings.driver_host}")
    if settings.driver_port:
        args.append(f"--driver_port={settings.driver_port}")
    return args


def _portable(settings: BeamSettings) -> list[str]:
    """Return the arguments for a job service: Flink's, Spark's or any other."""
    name = settings.runner
    problems = []
    if name == "portable" and settings.job_endpoint is None:
        problems.append(
            "beam.job_endpoint is not set, which runner portable needs; expected host:port of a job service"
        )
    if name != "portable" and settings.job_endpoint is None and settings.master is None:
        problems.append(
            f"beam.master is not set, which runner {name} needs; expected the cluster's address, or beam.job_endpoint "
            "for a job service that is running"
        )
    if settings.environment != "loopback" and settings.environment_config is None and settings.image is None:
        problems.append(f"beam.environment_config is not set, which environment {settings.environment} needs")
    if settings.environment_config is not None and settings.environment == "loopback":
        problems.append("beam.environment_config is set, but beam.environment is loopback, which has none; set it too")
    if problems:
        raise ConfigError(*problems)
    runner = {"portable": "PortableRunner", "flink": "FlinkRunner", "spark": "SparkRunner"}[name]
    args = [f"--runner={runner}", f"--environment_type={_ENVIRONMENTS[settings.environment]}"]
    given = settings.environment_config or (settings.image if settings.environment == "docker" else None)
    if given is not None:
        args.append(f"--environment_config={given}")
    if settings.job_endpoint is not None:
        args.append(f"--job_endpoint={settings.job_endpoint}")
    if name == "flink":
        args += [f"--parallelism={settings.workers}"]
        args += [f"--flink_master={settings.master}"] if settings.master else []
    elif name == "spark":
        args += [f"--spark_master_url={settings.master}"] if settings.master else []
    else:
        args += [f"--sdk_worker_parallelism={settings.workers}"]
    return args + _code(settings.image or "unused", settings.setup_file)


def _code(image: str | None, setup_file: str | None) -> list[str]:
    """Return how workers come by this project: from an image, or by an installation."""
    return [f"--setup_file={setup_file}"] if setup_file is not None else [f"--sdk_container_image={image}"]


def _dataflow(config: Config, here: bool) -> list[str]:
    """Return the arguments for Dataflow; what is Vertex AI's too is taken from there."""
    settings, own, vertex = config.beam, config.beam.dataflow, config.vertex
    temp = own.temp_location or (f"{vertex.root}/tmp" if vertex.root else None)
    image = None if settings.setup_file is not None else settings.image or vertex.image
    needed = {
        "project": (own.project or vertex.project, "beam.dataflow.project or vertex.project", "the project's id"),
        "region": (own.region or vertex.region, "beam.dataflow.region or vertex.region", "such as europe-west4"),
        "temp_location": (temp, "beam.dataflow.temp_location or vertex.root", "a folder of a bucket, gs://…"),
    }
    problems = [
        f"runner dataflow needs {option}; set {where}, {what}"
        for option, (value, where, what) in needed.items()
        if not value
    ]
    if image is None and settings.setup_file is None:
        problems.append(
            "runner dataflow needs this project on its workers; set beam.image (`slipway image` writes its files), or "
            "beam.setup_file"
        )
    if here and importlib.util.find_spec("apitools") is None:
        problems.append(
            "runner dataflow needs Beam's Google packages; install apache-beam[gcp] of the installed version"
        )
    if problems:
        raise ConfigError(*problems)
    args = ["--runner=DataflowRunner", *(f"--{option}={value}" for option, (value, _, _) in needed.items())]
    args.append(f"--num_workers={settings.workers}")
    account = own.service_account or vertex.service_account
    further = {
        "max_num_workers": own.most_workers,
        "machine_type": own.machine_type,
        "service_account_email": account,
    }
    args += [f"--{option}={value}" for option, value in further.items() if value is not None]
    args += [f"--labels={key}={value}" for key, value in sorted(vertex.labels.items())]
    if image is not None:
        args.append("--sdk_location=container")
    return args + _code(image, settings.setup_file)


def _further(settings: BeamSettings) -> list[str]:
    """Return the user's own options.

    Raises:
        ConfigError: Beam has no such option, or it has a key of its own.
    """
    if not settings.options:
        return []
    known = known_options()
    problems = []
    for name in settings.options:
        if name in _SET_HERE:
            problems.append(f"beam.options.{name}: this one has a key of its own; set {_SET_HERE[name]}")
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"beam.options.{name}: Beam has no such option{hint}")
    if problems:
        raise ConfigError(*problems)
    return [arg for name, value in settings.options.items() for arg in _arguments(name, value, known[name])]


def _arguments(name: str, value: Any, action: Any) -> list[str]:
    """Return one option as arguments: a flag alone, a list as one argument for each element."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigError(f"beam.options.{name} is {json.dumps(value)}; expected true or false, it is a switch")
        return [f"--{name}"] if value else []
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{name}={str(one).lower() if isinstance(one, bool) else one}" for one in values]


def known_options() -> dict[str, Any]:
    """Return the action of every option that Beam knows, by its name without dashes."""
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    import pipeline.runners.beam.runner  # noqa: F401 (brings the options of the runner `workers`)

    parser = _BeamArgumentParser()
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return {flag.lstrip("-"): action for action in parser._actions for flag in action.option_strings}
