"""Everything the model server is told, typed and checked, before anything starts.

Comes in: parsed flags. Goes out: `ServerSettings`. Called by `serving.server.running`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.server.batching import BatchingOptions
from serving.server.config import files
from serving.server.config.flags import FlagError, ParsedFlags, check_supported
from serving.server.config.models import read_model_config_file, single_model
from serving.server.loading import LoadOptions


@dataclass(frozen=True)
class RestSettings:
    """The REST API.

    Attributes:
        port: TCP port; 0 for no REST API.
        timeout_ms: Milliseconds after which a request ends without an answer.
        cors: Whether pages of other origins may call it.
        max_body_bytes: Largest body, after decompression.
        max_pixels: Largest image.
        metrics_path: Path of the Prometheus metrics; None if they are off.
    """

    port: int
    timeout_ms: int
    cors: bool
    max_body_bytes: int
    max_pixels: int
    metrics_path: str | None


@dataclass(frozen=True)
class GrpcSettings:
    """The gRPC API.

    Attributes:
        port: TCP port; 0 for none.
        socket_path: Path of a Unix socket; empty for none.
        tls: Keys; None for plain text.
        health: Whether the standard health service is offered.
        tensor_content: Whether answers carry packed tensor contents.
        max_threads: Most calls that are worked on at once; 0 for no limit.
        channel_arguments: Options of the gRPC library.
    """

    port: int
    socket_path: str
    tls: files.TlsConfig | None
    health: bool
    tensor_content: bool
    max_threads: int
    channel_arguments: tuple[tuple[str, int | str], ...]


@dataclass(frozen=True)
class LifecycleSettings:
    """How versions come and go.

    Attributes:
        poll_seconds: Pause between two looks for versions; 0 to look once, less for never.
        load_threads: Versions loaded side by side after the start.
        unload_threads: Versions unloaded side by side.
        max_retries: Further attempts after loading failed.
        retry_seconds: Pause between two attempts.
        labels_for_unavailable: Whether a new label may point to a version that is not available.
    """

    poll_seconds: int = 1
    load_threads: int = 1
    unload_threads: int = 1
    max_retries: int = 5
    retry_seconds: float = 60.0
    labels_for_unavailable: bool = False


@dataclass(frozen=True)
class RequestLogSettings:
    """Where a sample of the requests goes.

    Attributes:
        directory: Where the files are written.
        sampling_rate: Share of the requests, 0 to 1.
    """

    directory: Path
    sampling_rate: float


@dataclass(frozen=True)
class ServerSettings:
    """All settings of one model server.

    Attributes:
        host: Address on which both APIs listen.
        models: `ModelServerConfig` proto to begin with.
        model_config_file: File to read again; None if the models came from flags.
        config_poll_seconds: Pause between two looks at the model config file; 0 for one look only.
        rest: The REST API.
        grpc: The gRPC API.
        lifecycle: How versions come and go.
        load: How versions are loaded.
        batching: How requests are gathered.
        check_method_names: Whether Classify and Regress demand the method names of TF1.
        request_log: Sample of the requests; None for none.
    """

    host: str
    models: Any
    model_config_file: Path | None
    config_poll_seconds: int
    rest: RestSettings
    grpc: GrpcSettings
    lifecycle: LifecycleSettings
    load: LoadOptions
    batching: BatchingOptions
    check_method_names: bool
    request_log: RequestLogSettings | None


def settings_from_flags(flags: ParsedFlags) -> ServerSettings:
    """Check flags against each other and read the files that they name.

    Raises:
        FlagError: Flags contradict each other or cannot be honored.
        ConfigFileError: A file cannot be read or understood.
    """
    check_supported(flags)
    file = flags.text("model_config_file")
    if not file and not flags.text("model_base_path"):
        raise FlagError(
            "nothing to serve: give --model_base_path=DIR, the directory that holds the versions, or "
            "--model_config_file=FILE."
        )
    load, batching = _engine(flags)
    return ServerSettings(
        host=flags.text("host"),
        models=_read_models(flags),
        model_config_file=Path(file) if file else None,
        config_poll_seconds=flags.integer("model_config_file_poll_wait_seconds"),
        rest=_rest(flags),
        grpc=_grpc(flags),
        lifecycle=_lifecycle(flags),
        load=load,
        batching=batching,
        check_method_names=flags.boolean("enable_signature_method_name_check"),
        request_log=_request_log(flags),
    )


def _read_models(flags: ParsedFlags) -> Any:
    if file := flags.text("model_config_file"):
        return read_model_config_file(file)
    return single_model(flags.text("model_name"), flags.text("model_base_path"))


def _rest(flags: ParsedFlags) -> RestSettings:
    monitoring = flags.text("monitoring_config_file")
    return RestSettings(
        port=_port(flags, "rest_api_port"),
        timeout_ms=_at_least(flags, "rest_api_timeout_in_ms", 1),
        cors=flags.boolean("rest_api_enable_cors_support"),
        max_body_bytes=_at_least(flags, "max_body_bytes", 1),
        max_pixels=_at_least(flags, "max_pixels", 1),
        metrics_path=files.read_monitoring(monitoring) if monitoring else None,
    )


def _grpc(flags: ParsedFlags) -> GrpcSettings:
    port, socket_path = _port(flags, "port"), flags.text("grpc_socket_path")
    if not port and not socket_path:
        raise FlagError("--port=0 leaves no gRPC API; give --port or --grpc_socket_path, as the real server demands.")
    if port and port == flags.integer("rest_api_port"):
        raise FlagError(f"--rest_api_port and --port are both {port}; choose two ports.")
    tls = flags.text("ssl_config_file")
    return GrpcSettings(
        port=port,
        socket_path=socket_path,
        tls=files.read_tls(tls) if tls else None,
        health=flags.boolean("enable_grpc_healthcheck_service"),
        tensor_content=flags.boolean("enable_serialization_as_tensor_content"),
        max_threads=_computed(flags, "grpc_max_threads", 0),
        channel_arguments=_channel_arguments(flags.text("grpc_channel_arguments")),
    )


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    pairs: list[tuple[str, int | str]] = []
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise FlagError(f"--grpc_channel_arguments holds {item!r}, expected key=value with commas between them.")
        try:
            pairs.append((key, int(value)))
        except ValueError:
            pairs.append((key, value))
    return tuple(pairs)


def _lifecycle(flags: ParsedFlags) -> LifecycleSettings:
    return LifecycleSettings(
        poll_seconds=flags.integer("file_system_poll_wait_seconds"),
        load_threads=max(_at_least(flags, "num_load_threads", 0), 1),
        unload_threads=max(_at_least(flags, "num_unload_threads", 0), 1),
        max_retries=_at_least(flags, "max_num_load_retries", 0),
        retry_seconds=max(flags.integer("load_retry_interval_micros"), 0) / 1e6,
        labels_for_unavailable=flags.boolean("allow_version_labels_for_unavailable_models"),
    )


def _engine(flags: ParsedFlags) -> tuple[LoadOptions, BatchingOptions]:
    """Load and batching options, from a platform config file or from the flags that it replaces."""
    intra, inter = _parallelism(flags)
    interpreters = max(_at_least(flags, "num_tflite_interpreters_per_pool", 1), 1)
    load = LoadOptions(
        tags=tuple(filter(None, flags.text("saved_model_tags").split(","))),
        intra_op_threads=intra,
        inter_op_threads=inter,
        warmup=flags.boolean("enable_model_warmup"),
        warmup_iterations=max(flags.integer("num_request_iterations_for_warmup"), 1),
        prefer_tflite=flags.boolean("prefer_tflite_model"),
        tflite_pool=_computed(flags, "num_tflite_pools", _cores()) * interpreters,
    )
    if platform_file := flags.text("platform_config_file"):
        platform = files.read_platform(platform_file, load)
        return platform.load, platform.batching or BatchingOptions()
    if session_file := flags.text("tensorflow_session_config_file"):
        # Flags come before the file, which gives what they leave open.
        from_file = files.read_session_config(session_file, load)
        load = replace(
            from_file,
            intra_op_threads=intra or from_file.intra_op_threads,
            inter_op_threads=inter or from_file.inter_op_threads,
        )
    return load, _batching(flags)


def _parallelism(flags: ParsedFlags) -> tuple[int, int]:
    session = _at_least(flags, "tensorflow_session_parallelism", 0)
    intra = _at_least(flags, "tensorflow_intra_op_parallelism", 0)
    inter = _at_least(flags, "tensorflow_inter_op_parallelism", 0)
    if session and intra and inter:
        raise FlagError(
            "--tensorflow_session_parallelism and --tensorflow_intra_op_parallelism with "
            "--tensorflow_inter_op_parallelism say the same thing; give one or the other."
        )
    return (intra, inter) if intra or inter else (session, session)


def _batching(flags: ParsedFlags) -> BatchingOptions:
    file = flags.text("batching_parameters_file")
    if not flags.boolean("enable_batching"):
        if file:
            raise FlagError(
                "--batching_parameters_file is set without --enable_batching; add the flag or drop the file."
            )
        return BatchingOptions(enabled="enable_batching" not in flags)
    return files.read_batching(file) if file else BatchingOptions()


def _request_log(flags: ParsedFlags) -> RequestLogSettings | None:
    rate = flags.number("request_log_sampling_rate")
    if not 0 <= rate <= 1:
        raise FlagError(f"--request_log_sampling_rate is {rate:g}, expected a share of 0 to 1.")
    directory = flags.text("request_log_dir")
    if not directory:
        if "request_log_sampling_rate" in flags:
            raise FlagError("--request_log_sampling_rate is set without --request_log_dir; add the directory.")
        return None
    return RequestLogSettings(Path(directory), rate)


def _port(flags: ParsedFlags, name: str) -> int:
    value = flags.integer(name)
    if not 0 <= value <= 65535:
        raise FlagError(f"--{name} is {value}, expected a port of 0 to 65535.")
    return value


def _at_least(flags: ParsedFlags, name: str, least: int) -> int:
    value = flags.integer(name)
    if value < least:
        raise FlagError(f"--{name} is {value}, expected {least} or more.")
    return value


def _computed(flags: ParsedFlags, name: str, default: int) -> int:
    """Value of a flag whose default depends on the machine; 0 stands for it as well."""
    return _at_least(flags, name, 0) or default if name in flags else default


def _cores() -> int:
    return len(os.sched_getaffinity(0))
