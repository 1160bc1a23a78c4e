"""The flags of `tensorflow_model_server` 2.16, and the few of our own.

Comes in: nothing. Goes out: `FLAGS`, one entry a flag with its type, default, meaning and effect on this server. Read
by the parser, the help text and `--engine=tfserving`, which hands the flags of the real server on.

Names, types and defaults follow `tensorflow_serving/model_servers/main.cc` and `server.h`; the words are our own. A
flag that cannot do anything here is accepted where ignoring it changes nothing that a client sees, and refused
otherwise.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

Kind = Literal["bool", "int32", "int64", "float", "string"]
Value = bool | int | float | str | None


class Effect(enum.Enum):
    """What a flag does in the embedded server."""

    APPLIES = "applies"
    NOTHING = "accepted, changes nothing here"
    DEFAULT_ONLY = "only its default is accepted"


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: Name without dashes.
        kind: Type of the value.
        default: Value when it is not given; None if it is computed from the machine.
        help: What it means, one sentence.
        effect: What it does in the embedded server.
        reason: Why it does not apply; empty if it does.
        own: Whether it is one of ours, unknown to `tensorflow_model_server`.
        choices: The values accepted, for flags with a fixed set.
    """

    name: str
    kind: Kind
    default: Value
    help: str
    effect: Effect = Effect.APPLIES
    reason: str = ""
    own: bool = False
    choices: tuple[str, ...] = ()


def _nothing(name: str, kind: Kind, default: Value, text: str, reason: str) -> Flag:
    return Flag(name, kind, default, text, Effect.NOTHING, reason)


def _refused(name: str, kind: Kind, default: Value, text: str, reason: str) -> Flag:
    return Flag(name, kind, default, text, Effect.DEFAULT_ONLY, reason)


def _own(name: str, kind: Kind, default: Value, text: str, choices: tuple[str, ...] = ()) -> Flag:
    return Flag(name, kind, default, text, own=True, choices=choices)


_TRANSPORTS = (
    Flag("port", "int32", 8500, "TCP port of the gRPC API; 0 for none, if a socket path is given."),
    Flag("grpc_socket_path", "string", "", "Path of a Unix socket on which the gRPC API listens as well."),
    Flag("rest_api_port", "int32", 0, "TCP port of the REST API, other than --port; 0 for no REST API."),
    _nothing(
        "rest_api_num_threads",
        "int32",
        None,
        "Threads of the REST API (default: four a core).",
        "REST requests share one event loop",
    ),
    Flag("rest_api_timeout_in_ms", "int32", 30000, "Milliseconds after which a REST request ends without an answer."),
    Flag("rest_api_enable_cors_support", "bool", False, "Let pages of other origins call the REST API (CORS)."),
    Flag("ssl_config_file", "string", "", "Text proto SSLConfig: key and certificate of the gRPC API."),
    _refused("use_alts_credentials", "bool", False, "Use ALTS on the gRPC API.", "ALTS works on Google Cloud only"),
    Flag("grpc_channel_arguments", "string", "", "Options of the gRPC server, `key=value` with commas between them."),
    Flag(
        "grpc_max_threads",
        "int32",
        None,
        "Most gRPC calls that are worked on at once (default: no limit, for calls do not hold threads here).",
    ),
    Flag("enable_grpc_healthcheck_service", "bool", False, "Offer the standard health service on the gRPC API."),
    Flag("enable_serialization_as_tensor_content", "bool", False, "Answer Predict calls with packed tensor contents."),
    Flag("monitoring_config_file", "string", "", "Text proto MonitoringConfig: whether and where metrics are shown."),
)
_MODELS = (
    Flag("model_name", "string", "default", "Name of the model; not used with --model_config_file."),
    Flag("model_base_path", "string", "", "Directory that holds the versions; not used with --model_config_file."),
    Flag("model_config_file", "string", "", "Text proto ModelServerConfig: models, version policies and labels."),
    Flag(
        "model_config_file_poll_wait_seconds",
        "int32",
        0,
        "Seconds between two looks at the model config file; 0 to read it once.",
    ),
    Flag("saved_model_tags", "string", "serve", "Tags of the graph to load, with commas between them."),
    Flag(
        "file_system_poll_wait_seconds",
        "int32",
        1,
        "Seconds between two looks for new versions; 0 to look once, less to wait for ever (tests).",
    ),
    Flag("num_load_threads", "int32", 0, "Versions that are loaded side by side after the start; 0 is one."),
    Flag("num_unload_threads", "int32", 0, "Versions that are unloaded side by side; 0 is one."),
    Flag("max_num_load_retries", "int32", 5, "How often loading is tried again after a failure."),
    Flag(
        "load_retry_interval_micros",
        "int64",
        60_000_000,
        "Microseconds between two attempts at loading; less than 0 for no pause.",
    ),
    Flag(
        "allow_version_labels_for_unavailable_models",
        "bool",
        False,
        "Let a new version label point to a version that is not loaded yet.",
    ),
    Flag("enable_model_warmup", "bool", True, "Replay the warm-up requests of a model before it is available."),
    Flag("num_request_iterations_for_warmup", "int32", 0, "How often each warm-up request is replayed; 0 is once."),
    Flag("platform_config_file", "string", "", "Text proto PlatformConfigMap, in place of the flags about the engine."),
    Flag("prefer_tflite_model", "bool", False, "Serve `model.tflite` of a version where there is one."),
    Flag("num_tflite_pools", "int32", None, "Pools of interpreters of a TFLite model (default: one a core)."),
    Flag("num_tflite_interpreters_per_pool", "int32", 1, "Interpreters of a pool; each works on one call at a time."),
    _nothing(
        "flush_filesystem_caches",
        "bool",
        True,
        "Drop file system caches after loading.",
        "local files have no cache of TensorFlow's to drop, with the real server neither",
    ),
    _nothing(
        "remove_unused_fields_from_bundle_metagraph",
        "bool",
        True,
        "Forget parts of the graph's description that serving does not need.",
        "the description is forgotten in any case",
    ),
    Flag(
        "enable_signature_method_name_check",
        "bool",
        False,
        "Demand the method names of TF1 in the signatures of Classify and Regress.",
    ),
)
_ENGINE = (
    Flag(
        "enable_batching",
        "bool",
        False,
        "Gather requests as --batching_parameters_file says. Requests that wait are gathered by default; "
        "--enable_batching=false runs each alone.",
    ),
    Flag("batching_parameters_file", "string", "", "Text proto BatchingParameters; needs --enable_batching."),
    _refused(
        "enable_per_model_batching_parameters",
        "bool",
        False,
        "Read `batching_params.pbtxt` of each model.",
        "all models share one set of batching parameters",
    ),
    Flag("tensorflow_session_parallelism", "int64", 0, "Threads inside and between operations; 0 to let TF choose."),
    Flag("tensorflow_intra_op_parallelism", "int64", 0, "Threads inside one operation; 0 to let TF choose."),
    Flag("tensorflow_inter_op_parallelism", "int64", 0, "Operations that run side by side; 0 to let TF choose."),
    Flag("tensorflow_session_config_file", "string", "", "Text proto ConfigProto: options of the sessions."),
    _refused(
        "per_process_gpu_memory_fraction",
        "float",
        0.0,
        "Share of the GPU's memory that is taken at the start.",
        "the embedded server takes GPU memory as it needs it",
    ),
    _refused(
        "xla_cpu_compilation_enabled",
        "bool",
        False,
        "Compile with XLA on the CPU.",
        "graphs run as they were exported, without XLA's automatic clustering",
    ),
    _refused(
        "xla_gpu_compilation_enabled",
        "bool",
        False,
        "Compile with XLA on CPU and GPU.",
        "graphs run as they were exported, without XLA's automatic clustering",
    ),
    _refused(
        "mixed_precision",
        "string",
        "",
        "Run float32 graphs in lower precision.",
        "graphs run as they were exported; convert the model instead",
    ),
    _refused(
        "thread_pool_factory_config_file",
        "string",
        "",
        "Text proto ThreadPoolConfig: a factory of thread pools.",
        "such factories are C++ classes linked into the server",
    ),
    _nothing("skip_initialize_tpu", "bool", False, "Leave TPUs alone.", "TPUs are never touched"),
    _nothing(
        "enable_profiler",
        "bool",
        True,
        "Offer TensorFlow's profiler service.",
        "the profiler service is not offered; calls of it end with UNIMPLEMENTED",
    ),
    Flag("version", "bool", False, "Print the versions and exit."),
)
_OWN = (
    _own("host", "string", "127.0.0.1", "Address on which both APIs listen; 0.0.0.0 for every network."),
    _own("engine", "string", "embedded", "Which server runs.", ("embedded", "tfserving")),
    _own("max_body_bytes", "int64", 64 * 2**20, "Largest body of a REST request, after decompression, in bytes."),
    _own("max_pixels", "int64", 50_000_000, "Largest image that is accepted, in pixels."),
    _own("request_log_dir", "string", "", "Directory for a sample of the requests as PredictionLog TFRecords."),
    _own("request_log_sampling_rate", "float", 0.01, "Share of the requests that is logged, 0 to 1."),
    _own(
        "rollout",
        "string",
        "latest",
        "`latest` serves the newest version; `manual` stays on the version in service until it is told otherwise.",
        ("latest", "manual"),
    ),
    _own(
        "state_dir",
        "string",
        "",
        "Directory of what --rollout=manual remembers (default: .slipway/traffic below --model_base_path).",
    ),
)

FLAGS: dict[str, Flag] = {flag.name: flag for flag in (*_TRANSPORTS, *_MODELS, *_ENGINE, *_OWN)}
