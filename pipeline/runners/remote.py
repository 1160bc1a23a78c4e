"""What compiling for Vertex AI and for Kubeflow Pipelines have in common: a config that holds in a container.

Comes in: the config as it holds on this machine, and the section of the service. Goes out: the config as it holds in
the service's containers, and the fingerprint of the data. Called by `pipeline.runners.vertex` and
`pipeline.runners.kubeflow`; nothing here imports TFX.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.config import Config
from pipeline.config.kubeflow import KubeflowSettings
from pipeline.config.vertex import VertexSettings
from pipeline.errors import ConfigError
from pipeline.mounts import is_remote, local_path
from pipeline.stage_keys import data_fingerprint
from transform.sources.registry import source_names

Section = VertexSettings | KubeflowSettings


def demand(section: Section, name: str, needed: Mapping[str, str]) -> None:
    """Check that values are set that a service can't do without.

    Args:
        section: the service's section of the config.
        name: its name.
        needed: what each field is for, by its name.

    Raises:
        ConfigError: one sentence for each that is missing.
    """
    missing = [f"{name}.{field} is not set; {why}" for field, why in needed.items() if getattr(section, field) is None]
    if missing:
        first = f"{name}.{next(field for field in needed if getattr(section, field) is None)}"
        raise ConfigError(*missing, f"write that below `{name}:` in the YAML, or pass --set {first}=VALUE and so on")


def container_config(config: Config, section: Section, name: str) -> Config:
    """Return the config with the paths at which containers of a service find the data and the model's module.

    Args:
        config: the config of this machine.
        section: the service's section of it.
        name: that section's name.

    Raises:
        ConfigError: something lies on this machine alone.
    """
    problems, data, model = [], {}, {}
    # A person's schema travels as text, so its path stays.
    if section.data_source is not None:
        key = "path" if config.data.source in source_names() else "source"
        data[key] = local_path(section.data_source)
    elif is_remote(config.data.source):
        data["source"] = local_path(config.data.source)
    elif config.data.source not in source_names() or config.data.path is not None:
        where = config.data.path or config.data.source
        problems.append(
            f"data.source is {where}, a folder of this machine, which containers don't see; copy it to where they do, "
            f"and name that place with {name}.data_source, such as gs://my-bucket/pictures"
        )
    if config.model.module is not None and section.model_module is None:
        problems.append(
            f"model.module is {config.model.module}, a file of this machine; copy it into the image, and name its path "
            f"there with {name}.model_module"
        )
    elif config.model.module is not None:
        model["module"] = section.model_module
    if config.data.schema_file is not None and not os.access(config.data.schema_file, os.R_OK):
        problems.append(f"data.schema_file: {config.data.schema_file} can't be read; expected a schema as text proto")
    if problems:
        raise ConfigError(*problems)
    updates = {"data": config.data.model_copy(update=data), "model": config.model.model_copy(update=model)}
    return config.model_copy(update=updates)


def paths_here(config: Config, section: Section) -> dict[str, str]:
    """Return what containers see elsewhere than this machine has it: path there to path here, for a rehearsal.

    Args:
        config: the config of this machine.
        section: the service's section of it.
    """
    places = {}
    data = config.data.path or config.data.source
    if section.data_source is not None and not is_remote(data) and os.path.exists(data):
        places[local_path(section.data_source)] = data
    if section.model_module is not None and config.model.module is not None:
        places[section.model_module] = config.model.module
    return places


def fingerprint_here(config: Config) -> str:
    """Return the fingerprint of the data, read on this machine; for data in a bucket, that of its name.

    A bucket isn't listed: that would take credentials to compile. ExampleGen then always reads it anew.

    Args:
        config: the config of this machine.

    Raises:
        DataError: the data isn't there.
    """
    if is_remote(config.data.source):
        return "unread:" + hashlib.sha256(config.data.source.encode()).hexdigest()
    return data_fingerprint(config)


def never_cached(config: Config, caching: bool) -> set[str]:
    """Return the stages whose results must not come from an earlier run, though `caching` may allow the others.

    Args:
        config: the config of this machine.
        caching: of the service's section.
    """
    if not caching:
        return {"*"}
    return {"ExampleGen"} if is_remote(config.data.source) else set()


def write_atomically(path: Path, text: str) -> Path:
    """Write a file that is either the old one or the whole new one.

    Raises:
        ConfigError: the file system refuses.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}; choose another folder with --out") from error
    return path


def to_json(value: Any) -> str:
    """Return JSON, the same text for equal values."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
