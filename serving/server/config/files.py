"""The smaller configuration files: batching, monitoring, TLS, session and platform.

Comes in: paths given by flags. Goes out: typed options of the parts they configure. Called by `serving.server.config.
settings`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from serving.server.batching import BatchingOptions
from serving.server.config.text_protos import ConfigFileError, message_class, read
from serving.server.loading import LoadOptions

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"
_MAX_BATCH_SIZE = 1000  # Defaults of TensorFlow's shared_batch_scheduler.h, for what a batching file leaves out.
_MAX_ENQUEUED_BATCHES = 10
_ADAPTER = "SavedModelBundleSourceAdapterConfig"


@dataclass(frozen=True)
class TlsConfig:
    """Keys of the gRPC API, all PEM.

    Attributes:
        key: Private key of the server.
        certificate: Certificate chain of the server.
        ca: Certificates that sign those of clients; None for the system's.
        client_verify: Whether clients must show a certificate.
    """

    key: bytes
    certificate: bytes
    ca: bytes | None = None
    client_verify: bool = False


def read_monitoring(path: str | os.PathLike[str]) -> str | None:
    """Read a MonitoringConfig file: path of the metrics on the REST port, None if they are off."""
    config = read(path, "MonitoringConfig").prometheus_config
    if not config.enable:
        return None
    shown = config.path or DEFAULT_METRICS_PATH
    if not shown.startswith("/"):
        raise ConfigFileError(f'{path}: prometheus_config.path is "{shown}", expected a path that begins with "/".')
    return str(shown)


def read_tls(path: str | os.PathLike[str]) -> TlsConfig:
    """Read an SSLConfig file, whose fields hold the PEM texts themselves."""
    config = read(path, "SSLConfig")
    for name in ("server_key", "server_cert"):
        if "-----BEGIN" not in getattr(config, name):
            raise ConfigFileError(f"{path}: {name} holds no PEM block; expected its text, not the path of a file.")
    if config.custom_ca and "-----BEGIN" not in config.custom_ca:
        raise ConfigFileError(f"{path}: custom_ca holds no PEM block; expected its text, not the path of a file.")
    return TlsConfig(
        config.server_key.encode(), config.server_cert.encode(), config.custom_ca.encode() or None, config.client_verify
    )


def read_batching(path: str | os.PathLike[str]) -> BatchingOptions:
    """Read a BatchingParameters file."""
    return to_batching(read(path, "BatchingParameters"), str(path))


def to_batching(parameters: Any, where: str) -> BatchingOptions:
    """Turn a `BatchingParameters` message into options.

    Raises:
        ConfigFileError: A value is out of range, or the allowed sizes do not end with the largest batch.
    """
    largest = _positive(parameters, "max_batch_size", _MAX_BATCH_SIZE, where)
    split = parameters.enable_large_batch_splitting.value
    size = _positive(parameters, "max_execution_batch_size", largest, where) if split else largest
    if size > largest:
        raise ConfigFileError(
            f"{where}: max_execution_batch_size is {size}, expected max_batch_size, {largest}, or less."
        )
    allowed = tuple(parameters.allowed_batch_sizes)
    if allowed and (list(allowed) != sorted(set(allowed)) or allowed[0] < 1 or allowed[-1] != size):
        raise ConfigFileError(
            f"{where}: allowed_batch_sizes are {list(allowed)}, expected increasing sizes that end with the largest "
            f"batch, {size}."
        )
    timeout = parameters.batch_timeout_micros.value
    if timeout < 0:
        raise ConfigFileError(f"{where}: batch_timeout_micros is {timeout}, expected 0 or more.")
    return BatchingOptions(
        max_batch_size=largest,
        timeout_micros=timeout,
        max_enqueued_batches=_positive(parameters, "max_enqueued_batches", _MAX_ENQUEUED_BATCHES, where),
        workers=_positive(parameters, "num_batch_threads", 0, where),
        allowed_batch_sizes=allowed,
        pad_variable_length_inputs=parameters.pad_variable_length_inputs,
        oversized="split" if split else "refuse",
        max_execution_batch_size=size if split else 0,
    )


def _positive(parameters: Any, name: str, default: int, where: str) -> int:
    if not parameters.HasField(name):
        return default
    value = int(getattr(parameters, name).value)
    if value < 1:
        raise ConfigFileError(f"{where}: {name} is {value}, expected 1 or more.")
    return value


def read_session_config(path: str | os.PathLike[str], options: LoadOptions) -> LoadOptions:
    """Read a ConfigProto file into load options."""
    from tensorflow.core.protobuf import config_pb2

    return apply_session_config(read(path, config_pb2.ConfigProto()), options, str(path))


def apply_session_config(config: Any, options: LoadOptions, where: str) -> LoadOptions:
    """Take the thread counts of a `ConfigProto` message over; other fields are refused.

    Raises:
        ConfigFileError: A field is set that the embedded server does not hand to its sessions.
    """
    known = {"intra_op_parallelism_threads", "inter_op_parallelism_threads"}
    _refuse_others(config, known, where)
    return replace(
        options,
        intra_op_threads=config.intra_op_parallelism_threads or options.intra_op_threads,
        inter_op_threads=config.inter_op_parallelism_threads or options.inter_op_threads,
    )


@dataclass(frozen=True)
class Platform:
    """What a platform config file says about the platform `tensorflow`."""

    load: LoadOptions
    batching: BatchingOptions | None


def read_platform(path: str | os.PathLike[str], options: LoadOptions) -> Platform:
    """Read a PlatformConfigMap file.

    Args:
        path: The file.
        options: Load options that it may change.

    Raises:
        ConfigFileError: It configures another platform or adapter than TensorFlow's, or fields that cannot be
            followed here.
    """
    where = str(path)
    platforms = read(path, "PlatformConfigMap").platform_configs
    if set(platforms) != {"tensorflow"}:
        raise ConfigFileError(f'{where}: platforms are {sorted(platforms)}, expected "tensorflow" alone.')
    packed = platforms["tensorflow"].source_adapter_config
    if packed.type_url.rpartition("/")[2] != f"tensorflow.serving.{_ADAPTER}":
        raise ConfigFileError(f'{where}: source_adapter_config is a "{packed.type_url}", expected a {_ADAPTER}.')
    adapter = message_class(_ADAPTER)()
    adapter.ParseFromString(packed.value)
    config = adapter.legacy_config
    load = replace(
        options,
        tags=tuple(config.saved_model_tags) or options.tags,
        warmup=config.enable_model_warmup,
        warmup_iterations=max(config.model_warmup_options.num_request_iterations.value, 1),
        prefer_tflite=config.prefer_tflite_model,
    )
    if config.HasField("session_config"):
        load = apply_session_config(config.session_config, load, where)
    batching = to_batching(config.batching_parameters, where) if config.HasField("batching_parameters") else None
    return Platform(load, batching)


def _refuse_others(message: Any, known: set[str], where: str) -> None:
    names = [descriptor.name for descriptor, _ in message.ListFields() if descriptor.name not in known]
    if names:
        raise ConfigFileError(
            f"{where}: {', '.join(names)} of {message.DESCRIPTOR.name} cannot be honored by the embedded server, only "
            f"{' and '.join(sorted(known))}. Remove them, or run the real server with --engine=tfserving."
        )
