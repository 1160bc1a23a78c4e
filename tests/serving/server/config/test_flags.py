"""The command line of the model server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.config.flag_table import FLAGS, Effect
from serving.server.config.flags import FlagError, check_supported, parse, usage


def test_values_and_defaults() -> None:
    flags = parse(["--port=9000", "--enable_batching", "--model_name=pets", "--load_retry_interval_micros=-1"])
    assert flags.integer("port") == 9000
    assert flags.boolean("enable_batching") is True
    assert flags.text("model_name") == "pets"
    assert flags.integer("load_retry_interval_micros") == -1
    assert flags.integer("rest_api_timeout_in_ms") == 30000, "the default"
    assert "port" in flags and "rest_api_port" not in flags


def test_the_last_of_two_counts_and_values_may_hold_anything() -> None:
    flags = parse(["--model_name=a", "--model_name=b=c d", "--enable_batching=true", "--enable_batching=false"])
    assert flags.text("model_name") == "b=c d"
    assert flags.boolean("enable_batching") is False
    assert parse(["--model_name="]).text("model_name") == ""


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--prot=1", "unknown flag --prot; did you mean --port?"),
        ("--rest-api-port=1", "did you mean --rest_api_port?"),
        ("--model_basepath=/x", "did you mean --model_base_path?"),
        ("--noenable_batching", "write --enable_batching=false"),
        ("--xyzzy", "unknown flag --xyzzy. --help lists all"),
        ("--port", "--port has no value; write --port=VALUE"),
        ("8500", "'8500' is no flag"),
        ("-port=1", "is no flag"),
        ("--", "is no flag"),
        ("--port=", "expected an integer of 32 bits"),
        ("--port=1.5", "expected an integer of 32 bits"),
        ("--port= 1", "expected an integer of 32 bits"),
        ("--port=2147483648", "expected an integer of 32 bits"),
        ("--load_retry_interval_micros=9223372036854775808", "expected an integer of 64 bits"),
        ("--enable_batching=1", "--enable_batching is '1', expected true or false"),
        ("--per_process_gpu_memory_fraction=half", "expected a number"),
        ("--request_log_sampling_rate=nan", "expected a number"),
        ("--engine=torch", "expected embedded or tfserving"),
    ],
)
def test_what_is_refused(argument: str, words: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse([argument])
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_is_parsed_or_refused_in_words(arguments: list[str]) -> None:
    try:
        flags = parse(arguments)
    except FlagError as error:
        assert str(error)
    else:
        assert set(flags.given) <= set(FLAGS)


@given(st.sampled_from([flag for flag in FLAGS.values() if flag.kind == "int64"]), st.integers(-(2**63), 2**63 - 1))
def test_integers_of_64_bits_survive(flag: object, value: int) -> None:
    name = flag.name  # type: ignore[attr-defined]
    assert parse([f"--{name}={value}"]).integer(name) == value


def test_flags_that_cannot_be_honored() -> None:
    check_supported(
        parse(["--use_alts_credentials=false", "--mixed_precision=", "--per_process_gpu_memory_fraction=0"])
    )
    with pytest.raises(FlagError, match=r"--use_alts_credentials=true cannot be honored .* --engine=tfserving"):
        check_supported(parse(["--use_alts_credentials"]))
    with pytest.raises(FlagError, match="takes GPU memory as it needs it"):
        check_supported(parse(["--per_process_gpu_memory_fraction=0.5"]))


def test_flags_that_change_nothing_are_named() -> None:
    flags = parse(["--rest_api_num_threads=7", "--enable_profiler", "--flush_filesystem_caches=false", "--port=1"])
    assert [flag.name for flag in flags.without_effect()] == ["rest_api_num_threads", "flush_filesystem_caches"]
    assert all(flag.reason for flag in FLAGS.values() if flag.effect is not Effect.APPLIES)


def test_help_lists_every_flag_ours_apart() -> None:
    text = usage()
    theirs, ours = text.split("Flags of Slipway:")
    for flag in FLAGS.values():
        assert f"  --{flag.name}  {flag.kind}\n" in (ours if flag.own else theirs)
    assert max(map(len, text.splitlines())) <= 100


def test_the_flags_of_the_real_server() -> None:
    # The list of tensorflow_serving/model_servers/main.cc at 2.16, by group of types.
    assert {name for name, flag in FLAGS.items() if not flag.own and flag.kind == "bool"} == {
        "rest_api_enable_cors_support", "enable_batching", "allow_version_labels_for_unavailable_models",
        "enable_per_model_batching_parameters", "flush_filesystem_caches", "use_alts_credentials",
        "enable_model_warmup", "version", "remove_unused_fields_from_bundle_metagraph", "prefer_tflite_model",
        "enable_signature_method_name_check", "xla_cpu_compilation_enabled", "xla_gpu_compilation_enabled",
        "enable_profiler", "skip_initialize_tpu", "enable_grpc_healthcheck_service",
        "enable_serialization_as_tensor_content",
    }  # fmt: skip
    assert {name for name, flag in FLAGS.items() if not flag.own and flag.kind in ("int32", "int64")} == {
        "port", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms",
        "model_config_file_poll_wait_seconds", "num_load_threads", "num_unload_threads", "max_num_load_retries",
        "load_retry_interval_micros", "file_system_poll_wait_seconds", "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism", "grpc_max_threads",
        "num_request_iterations_for_warmup", "num_tflite_pools", "num_tflite_interpreters_per_pool",
    }  # fmt: skip
    assert {name for name, flag in FLAGS.items() if not flag.own and flag.kind == "string"} == {
        "grpc_socket_path", "batching_parameters_file", "model_config_file", "model_name", "model_base_path",
        "tensorflow_session_config_file", "ssl_config_file", "platform_config_file", "saved_model_tags",
        "grpc_channel_arguments", "monitoring_config_file", "thread_pool_factory_config_file", "mixed_precision",
    }  # fmt: skip
    assert [name for name, flag in FLAGS.items() if flag.kind == "float" and not flag.own] == [
        "per_process_gpu_memory_fraction"
    ]
