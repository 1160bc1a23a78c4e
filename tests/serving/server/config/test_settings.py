"""Flags become settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.server.batching import BatchingOptions
from serving.server.config.flags import FlagError, parse
from serving.server.config.settings import ServerSettings, settings_from_flags
from serving.server.config.text_protos import ConfigFileError

_CORES = len(os.sched_getaffinity(0))


def _settings(*flags: str) -> ServerSettings:
    return settings_from_flags(parse(["--model_base_path=/m", *flags]))


def test_defaults_are_those_of_the_real_server() -> None:
    settings = _settings()
    config = settings.models.model_config_list.config[0]
    assert (config.name, config.base_path, config.model_platform) == ("default", "/m", "tensorflow")
    assert (settings.grpc.port, settings.rest.port, settings.rest.timeout_ms) == (8500, 0, 30000)
    assert settings.grpc.max_threads == 0, "no call holds a thread here"
    assert not (settings.grpc.health or settings.grpc.tensor_content or settings.rest.cors or settings.grpc.tls)
    life = settings.lifecycle
    assert (life.poll_seconds, life.max_retries, life.retry_seconds) == (1, 5, 60.0)
    assert (life.load_threads, life.unload_threads, life.labels_for_unavailable) == (1, 1, False)
    assert settings.load.tags == ("serve",) and settings.load.warmup and settings.load.warmup_iterations == 1
    assert settings.load.tflite_pool == _CORES
    assert settings.batching == BatchingOptions()
    assert settings.rest.metrics_path is None and settings.request_log is None
    assert settings.host == "127.0.0.1", "ours: the real server listens everywhere"


def test_values_arrive(tmp_path: Path) -> None:
    monitoring = tmp_path / "monitoring"
    monitoring.write_text("prometheus_config { enable: true }")
    settings = _settings(
        "--host=0.0.0.0", "--port=1", "--grpc_socket_path=/s", "--rest_api_port=2", "--rest_api_timeout_in_ms=3",
        "--rest_api_enable_cors_support", "--enable_grpc_healthcheck_service",
        "--enable_serialization_as_tensor_content", "--grpc_max_threads=4",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.primary_user_agent=x",
        f"--monitoring_config_file={monitoring}", "--max_num_load_retries=0", "--load_retry_interval_micros=1500000",
        "--num_load_threads=5", "--num_unload_threads=6", "--file_system_poll_wait_seconds=7",
        "--allow_version_labels_for_unavailable_models", "--saved_model_tags=serve,gpu",
        "--num_request_iterations_for_warmup=8", "--enable_model_warmup=false", "--prefer_tflite_model",
        "--num_tflite_pools=3", "--num_tflite_interpreters_per_pool=2", "--max_body_bytes=9", "--max_pixels=10",
        f"--request_log_dir={tmp_path}", "--request_log_sampling_rate=0.5", "--enable_signature_method_name_check",
    )  # fmt: skip
    assert settings.host == "0.0.0.0"
    assert (settings.grpc.port, settings.grpc.socket_path, settings.grpc.max_threads) == (1, "/s", 4)
    assert settings.grpc.health and settings.grpc.tensor_content
    assert settings.grpc.channel_arguments == (("grpc.max_connection_age_ms", 2000), ("grpc.primary_user_agent", "x"))
    rest = settings.rest
    assert (rest.port, rest.timeout_ms, rest.cors, rest.max_body_bytes, rest.max_pixels) == (2, 3, True, 9, 10)
    assert rest.metrics_path == "/monitoring/prometheus/metrics"
    life = settings.lifecycle
    assert (life.max_retries, life.retry_seconds, life.load_threads, life.unload_threads) == (0, 1.5, 5, 6)
    assert (life.poll_seconds, life.labels_for_unavailable) == (7, True)
    load = settings.load
    assert (load.tags, load.warmup, load.warmup_iterations) == (("serve", "gpu"), False, 8)
    assert (load.prefer_tflite, load.tflite_pool) == (True, 6)
    assert settings.request_log is not None and settings.request_log.sampling_rate == 0.5
    assert settings.check_method_names


def test_retry_without_a_pause() -> None:
    assert _settings("--load_retry_interval_micros=-1").lifecycle.retry_seconds == 0


def test_the_model_config_file_replaces_name_and_path(tmp_path: Path) -> None:
    file = tmp_path / "models"
    file.write_text('model_config_list { config { name: "x" base_path: "/x" model_platform: "tensorflow" } }')
    settings = _settings(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=5", "--model_name=y")
    assert [model.name for model in settings.models.model_config_list.config] == ["x"]
    assert (settings.model_config_file, settings.config_poll_seconds) == (file, 5)
    with pytest.raises(ConfigFileError, match="gone cannot be read"):
        _settings(f"--model_config_file={tmp_path / 'gone'}")


def test_batching(tmp_path: Path) -> None:
    file = tmp_path / "batching"
    file.write_text("max_batch_size { value: 5 }")
    assert _settings("--enable_batching").batching == BatchingOptions()
    assert _settings("--enable_batching", f"--batching_parameters_file={file}").batching.max_batch_size == 5
    assert not _settings("--enable_batching=false").batching.enabled
    with pytest.raises(FlagError, match="without --enable_batching"):
        _settings(f"--batching_parameters_file={file}")


def test_threads_of_the_sessions(tmp_path: Path) -> None:
    both = _settings("--tensorflow_session_parallelism=3").load
    assert (both.intra_op_threads, both.inter_op_threads) == (3, 3)
    one = _settings("--tensorflow_intra_op_parallelism=2", "--tensorflow_session_parallelism=3").load
    assert (one.intra_op_threads, one.inter_op_threads) == (2, 0)
    with pytest.raises(FlagError, match="say the same thing"):
        _settings(
            "--tensorflow_session_parallelism=3",
            "--tensorflow_intra_op_parallelism=2",
            "--tensorflow_inter_op_parallelism=2",
        )
    file = tmp_path / "session"
    file.write_text("intra_op_parallelism_threads: 7 inter_op_parallelism_threads: 8")
    mixed = _settings(f"--tensorflow_session_config_file={file}", "--tensorflow_intra_op_parallelism=2").load
    assert (mixed.intra_op_threads, mixed.inter_op_threads) == (2, 8)


def test_a_platform_file_replaces_the_flags_of_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "platform"
    file.write_text(
        'platform_configs { key: "tensorflow" value { source_adapter_config { '
        "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { legacy_config { "
        "session_config { intra_op_parallelism_threads: 9 } enable_model_warmup: true } } } } }"
    )
    settings = _settings(f"--platform_config_file={file}", "--enable_batching")
    assert settings.load.intra_op_threads == 9
    assert settings.batching == BatchingOptions()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port=0"], "--port=0 leaves no gRPC API"),
        (["--port=8501", "--rest_api_port=8501"], "are both 8501"),
        (["--port=65536"], "expected a port of 0 to 65535"),
        (["--rest_api_port=-1"], "expected a port of 0 to 65535"),
        (["--rest_api_timeout_in_ms=0"], "expected 1 or more"),
        (["--max_num_load_retries=-1"], "expected 0 or more"),
        (["--grpc_max_threads=-1"], "expected 0 or more"),
        (["--grpc_channel_arguments=grpc.x"], "holds 'grpc.x', expected key=value"),
        (["--request_log_sampling_rate=2", "--request_log_dir=/x"], "is 2, expected a share of 0 to 1"),
        (["--request_log_sampling_rate=0.1"], "without --request_log_dir"),
        (["--use_alts_credentials"], "cannot be honored"),
        (["--model_base_path="], "nothing to serve"),
    ],
)
def test_what_is_refused(flags: list[str], words: str) -> None:
    with pytest.raises(FlagError) as caught:
        _settings(*flags)
    assert words in str(caught.value)
