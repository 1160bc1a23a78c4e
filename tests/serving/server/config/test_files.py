"""Batching, monitoring, TLS, session and platform files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.server.batching import BatchingOptions
from serving.server.config import files
from serving.server.config.text_protos import ConfigFileError
from serving.server.loading import LoadOptions

Write = Callable[[str], Path]


@pytest.fixture()
def file(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "file.pbtxt"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ('prometheus_config { path: "/metrics" }', None),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
    ],
)
def test_monitoring(file: Write, text: str, expected: str | None) -> None:
    assert files.read_monitoring(file(text)) == expected


def test_monitoring_path_that_is_none(file: Write) -> None:
    with pytest.raises(ConfigFileError, match='expected a path that begins with "/"'):
        files.read_monitoring(file('prometheus_config { enable: true path: "metrics" }'))


def test_tls(file: Write) -> None:
    pem = "-----BEGIN X-----\\n"
    config = files.read_tls(file(f'server_key: "{pem}k" server_cert: "{pem}c" client_verify: true'))
    assert config.key == b"-----BEGIN X-----\nk"
    assert config.certificate == b"-----BEGIN X-----\nc"
    assert (config.ca, config.client_verify) == (None, True)
    with pytest.raises(ConfigFileError, match="server_cert holds no PEM block; expected its text, not the path"):
        files.read_tls(file(f'server_key: "{pem}" server_cert: "/etc/cert.pem"'))
    with pytest.raises(ConfigFileError, match="custom_ca holds no PEM block"):
        files.read_tls(file(f'server_key: "{pem}" server_cert: "{pem}" custom_ca: "ca.pem"'))


def test_batching_defaults_are_those_of_the_scheduler(file: Write) -> None:
    assert files.read_batching(file("")) == BatchingOptions(
        max_batch_size=1000, timeout_micros=0, max_enqueued_batches=10, oversized="refuse"
    )


def test_batching(file: Write) -> None:
    text = """
        max_batch_size { value: 16 } batch_timeout_micros { value: 500 } max_enqueued_batches { value: 3 }
        num_batch_threads { value: 2 } allowed_batch_sizes: 4 allowed_batch_sizes: 16 pad_variable_length_inputs: true
        thread_pool_name { value: "any" }
    """
    assert files.read_batching(file(text)) == BatchingOptions(16, 500, 3, 2, (4, 16), True, "refuse")
    options = files.read_batching(
        file(
            "max_batch_size { value: 64 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 8 } allowed_batch_sizes: 8"
        )
    )
    assert (options.oversized, options.max_batch_size, options.batch_rows) == ("split", 64, 8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size is 0, expected 1 or more"),
        ("num_batch_threads { value: -1 }", "num_batch_threads is -1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "end with the largest batch, 8"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [8, 4]", "expected increasing sizes"),
        (
            "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 9 }",
            "max_execution_batch_size is 9, expected max_batch_size, 8, or less",
        ),
    ],
)
def test_batching_that_is_refused(file: Write, text: str, words: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        files.read_batching(file(text))
    assert words in str(caught.value)


def test_session_config(file: Write) -> None:
    options = files.read_session_config(file("intra_op_parallelism_threads: 3"), LoadOptions(inter_op_threads=5))
    assert (options.intra_op_threads, options.inter_op_threads) == (3, 5)
    with pytest.raises(ConfigFileError, match="gpu_options of ConfigProto cannot be honored"):
        files.read_session_config(file("gpu_options { allow_growth: true }"), LoadOptions())


_ADAPTER = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"


def _platform(inner: str, name: str = "tensorflow", adapter: str = _ADAPTER) -> str:
    return (
        f'platform_configs {{ key: "{name}" value {{ source_adapter_config {{ [{adapter}] '
        f"{{ legacy_config {{ {inner} }} }} }} }} }}"
    )


def test_platform(file: Write) -> None:
    text = _platform(
        'saved_model_tags: "serve" saved_model_tags: "gpu" enable_model_warmup: true prefer_tflite_model: true '
        "session_config { inter_op_parallelism_threads: 2 } batching_parameters { max_batch_size { value: 7 } } "
        "model_warmup_options { num_request_iterations { value: 3 } }"
    )
    platform = files.read_platform(file(text), LoadOptions())
    assert platform.load == LoadOptions(
        tags=("serve", "gpu"), inter_op_threads=2, warmup=True, warmup_iterations=3, prefer_tflite=True
    )
    assert platform.batching is not None and platform.batching.max_batch_size == 7
    bare = files.read_platform(file(_platform("")), LoadOptions())
    assert bare == files.Platform(LoadOptions(warmup=False), None), "the message's own defaults, not the flags'"


def test_platforms_that_are_refused(file: Write) -> None:
    with pytest.raises(ConfigFileError, match=r"platforms are \['other'\], expected \"tensorflow\" alone"):
        files.read_platform(file(_platform("", name="other")), LoadOptions())
    with pytest.raises(ConfigFileError, match=r"source_adapter_config is a .*Int64Value"):
        text = _platform("", adapter="type.googleapis.com/google.protobuf.Int64Value")
        files.read_platform(file(text.replace("legacy_config {  }", "value: 1")), LoadOptions())
    with pytest.raises(ConfigFileError, match="no field named"):
        files.read_platform(file(_platform("experimental_thing: 1")), LoadOptions())
