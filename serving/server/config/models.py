"""The models to serve: `ModelServerConfig` protos, checked as TensorFlow Serving checks them.

Comes in: a proto, from the model config file, from a HandleReloadConfig call, or made of `--model_name` and
`--model_base_path`. Goes out: `ModelConfig` by name. Called at the start and by each reload.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from serving.server.config.text_protos import read
from serving.server.status import Code, StatusError

TENSORFLOW = "tensorflow"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.]*://")


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions that are there are served.

    Attributes:
        kind: `latest` serves the largest numbers, `all` every version, `specific` those named.
        count: How many, for `latest`.
        versions: Which, for `specific`.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    count: int = 1
    versions: frozenset[int] = frozenset()

    def describe(self) -> str:
        """The policy in words."""
        if self.kind == "specific":
            return f"versions {', '.join(map(str, sorted(self.versions))) or 'none'}"
        return "all versions" if self.kind == "all" else f"latest {self.count}"


@dataclass(frozen=True)
class ModelConfig:
    """One model.

    Attributes:
        name: Name that requests use.
        base_path: Directory that holds the versions.
        platform: Kind of model.
        policy: Which versions are served.
        labels: Version by label.
    """

    name: str
    base_path: Path
    platform: str = TENSORFLOW
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def read_model_config_file(path: str | os.PathLike[str]) -> Any:
    """Read a model config file into a `ModelServerConfig` proto.

    Raises:
        ConfigFileError: The file cannot be read or parsed.
    """
    from tensorflow_serving.config import model_server_config_pb2

    return read(path, model_server_config_pb2.ModelServerConfig())


def single_model(name: str, base_path: str) -> Any:
    """`ModelServerConfig` proto of one TensorFlow model."""
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=TENSORFLOW)
    return config


def to_models(config: Any) -> dict[str, ModelConfig]:
    """Turn a `ModelServerConfig` proto into models by name.

    Raises:
        StatusError: INVALID_ARGUMENT; a model is listed twice, has a relative base path, an unknown platform, a
            setting that nothing here can follow, or the proto is a custom config.
    """
    kind = config.WhichOneof("config")
    if kind == "custom_model_config":
        raise _invalid("ModelServer does not yet support custom model config.")
    listed = config.model_config_list.config
    _check_unique(model.name for model in listed)
    return {model.name: _to_model(model) for model in listed}


def check_same_platforms(old: Mapping[str, ModelConfig], new: Mapping[str, ModelConfig]) -> None:
    """Refuse to change the platform of a model that is served.

    Raises:
        StatusError: INVALID_ARGUMENT.
    """
    for name in new.keys() & old.keys():
        if old[name].platform != new[name].platform:
            raise _invalid(
                f"Illegal to change a model's platform. For model {name} platform was {old[name].platform} and new "
                f"platform requested is {new[name].platform}"
            )


def _check_unique(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _invalid(f"Illegal to list model {name} multiple times in config list")
        seen.add(name)


def _to_model(model: Any) -> ModelConfig:
    if not model.name:
        raise _invalid(f"A model in the config list has no name; its base_path is {model.base_path!r}.")
    platform = _platform(model)
    if platform != TENSORFLOW:
        raise _invalid(f"Model {model.name} requests unsupported platform {platform}")
    if model.HasField("logging_config"):
        # The stock binary has no collectors either and refuses every one of them.
        kind = model.logging_config.log_collector_config.type
        raise StatusError(
            Code.NOT_FOUND,
            f"Cannot find LogCollector::Factory for type: {kind} (model {model.name}; --request_log_dir logs requests)",
        )
    return ModelConfig(
        name=model.name,
        base_path=_base_path(model),
        platform=platform,
        policy=_policy(model),
        labels=dict(model.version_labels),
    )


def _platform(model: Any) -> str:
    if not model.model_type:
        if not model.model_platform:
            raise _invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        return str(model.model_platform)
    if model.model_platform:
        raise _invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    name = model.DESCRIPTOR.fields_by_name["model_type"].enum_type.values_by_number[model.model_type].name
    if name != "TENSORFLOW":
        raise _invalid(f"ModelServerConfig::model_type choice {name} not supported.")
    return TENSORFLOW


def _base_path(model: Any) -> Path:
    text = str(model.base_path)
    local = text[len("file://") :] if text.startswith("file://") else text
    if _SCHEME.match(local):
        raise _invalid(
            f"Model {model.name} has the base_path {text}, and the embedded server reads local directories only; "
            "mount or copy it, or run the real server with --engine=tfserving."
        )
    if not os.path.isabs(local):
        raise _invalid(f"Expected model {model.name} to have an absolute path or URI; got base_path()={text}")
    return Path(local)


def _policy(model: Any) -> VersionPolicy:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy("all")
    if choice == "specific":
        return VersionPolicy("specific", versions=frozenset(policy.specific.versions))
    return VersionPolicy("latest", count=max(policy.latest.num_versions, 1))


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)
