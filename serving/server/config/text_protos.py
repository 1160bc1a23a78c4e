"""Text protos of the configuration files, some of whose messages no Python package carries.

Comes in: the path of a file. Goes out: a filled message, or an error with file, line and column. Called by the readers
beside this module.

`tensorflow-serving-api` 2.16 has the model server config only. The messages of the batching, monitoring, SSL and
platform files are few and small; they are declared here in a descriptor pool of their own, so that they never collide
with generated modules that another package may bring.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from typing import Any

from serving.errors import ServingError

_PACKAGE = "tensorflow.serving"
_NO_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "(\w+)"')
_POSITION = re.compile(r"\d+:\d+ : ")
_WRAPPER = ".google.protobuf."

# Fields by message: name, number, type (`*` in front for repeated). Facts of TensorFlow Serving's .proto files.
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "PrometheusConfig": (("enable", 1, "bool"), ("path", 2, "string")),
    "MonitoringConfig": (("prometheus_config", 1, "PrometheusConfig"),),
    "SSLConfig": (
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ),
    "BatchingParameters": (
        ("max_batch_size", 1, f"{_WRAPPER}Int64Value"),
        ("batch_timeout_micros", 2, f"{_WRAPPER}Int64Value"),
        ("max_enqueued_batches", 3, f"{_WRAPPER}Int64Value"),
        ("num_batch_threads", 4, f"{_WRAPPER}Int64Value"),
        ("thread_pool_name", 5, f"{_WRAPPER}StringValue"),
        ("allowed_batch_sizes", 6, "*int64"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, f"{_WRAPPER}BoolValue"),
        ("max_execution_batch_size", 9, f"{_WRAPPER}Int64Value"),
    ),
    "ModelWarmupOptions": (("num_request_iterations", 1, f"{_WRAPPER}Int32Value"),),
    "SessionBundleConfig": (
        ("session_config", 2, ".tensorflow.ConfigProto"),
        ("batching_parameters", 3, "BatchingParameters"),
        ("saved_model_tags", 780, "*string"),
        ("enable_model_warmup", 779, "bool"),
        ("model_warmup_options", 781, "ModelWarmupOptions"),
        ("prefer_tflite_model", 785, "bool"),
    ),
    "SavedModelBundleSourceAdapterConfig": (("legacy_config", 1000, "SessionBundleConfig"),),
    "PlatformConfig": (("source_adapter_config", 1, f"{_WRAPPER}Any"),),
    "PlatformConfigMap": (("platform_configs", 1, "map<string, PlatformConfig>"),),
}


class ConfigFileError(ServingError):
    """A configuration file is missing, unreadable, or says what the server does not understand."""


def message_class(name: str) -> Any:
    """Class of one of the messages declared here, such as `BatchingParameters`."""
    from google.protobuf import message_factory

    descriptor = _pool().FindMessageTypeByName(f"{_PACKAGE}.{name}")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(_pool()).GetPrototype(descriptor)


def read(path: str | os.PathLike[str], message: Any) -> Any:
    """Fill a message from a text proto file.

    Args:
        path: The file.
        message: An empty message, or the name of one declared here.

    Returns:
        The message.

    Raises:
        ConfigFileError: The file cannot be read, or is no text proto of this message; with file, line, column.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise ConfigFileError(f"{path} cannot be read: {error.strerror}.") from error
    return parse(content, message, str(path))


def parse(content: bytes, message: Any, where: str) -> Any:
    """Fill a message from the content of a text proto file; `where` names it in errors."""
    from google.protobuf import text_format

    filled = message_class(message)() if isinstance(message, str) else message
    kind = filled.DESCRIPTOR.name
    try:
        return text_format.Parse(content.decode("utf-8"), filled, descriptor_pool=filled.DESCRIPTOR.file.pool)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigFileError(f"{where}:{line}: not UTF-8; expected a text proto of {kind}.") from error
    except text_format.ParseError as error:
        position = ":".join(str(part) for part in (error.GetLine(), error.GetColumn()) if part is not None)
        reason = _POSITION.sub("", str(error), count=1).rstrip(".")
        place = f"{where}:{position}" if position else where
        raise ConfigFileError(
            f"{place}: {reason}{_suggestion(filled.DESCRIPTOR, reason)}. The file is read as a text proto of {kind}."
        ) from error
    except RecursionError as error:
        raise ConfigFileError(f"{where}: nested too deeply for a {kind}.") from error


def _suggestion(root: Any, reason: str) -> str:
    """Nearest field, if an unknown one is the reason."""
    match = _NO_FIELD.search(reason)
    if match is None:
        return ""
    try:
        descriptor = root.file.pool.FindMessageTypeByName(match[1])
    except KeyError:
        return ""
    names = [field.name for field in descriptor.fields]
    near = difflib.get_close_matches(match[2], names, n=1, cutoff=0.5)
    return f'; the nearest is "{near[0]}"' if near else f"; it has {', '.join(names)}"


@functools.lru_cache(maxsize=1)
def _pool() -> Any:
    from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, wrappers_pb2
    from tensorflow.core.protobuf import config_pb2

    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()
    for module in (any_pb2, wrappers_pb2, config_pb2):
        _copy_file(module.DESCRIPTOR, pool, added)
    file = descriptor_pb2.FileDescriptorProto(
        name="slipway/serving_config.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[module.DESCRIPTOR.name for module in (any_pb2, wrappers_pb2, config_pb2)],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            _declare(message, field_name, number, kind)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _copy_file(descriptor: Any, pool: Any, added: set[str]) -> None:
    """Bring a file and what it imports into the pool."""
    if descriptor.name in added:
        return
    added.add(descriptor.name)
    for dependency in descriptor.dependencies:
        _copy_file(dependency, pool, added)
    pool.AddSerializedFile(descriptor.serialized_pb)


def _declare(message: Any, name: str, number: int, kind: str) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    field = message.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
    if kind.startswith("map<"):
        key, value = kind[4:-1].split(", ")
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _declare(entry, "key", 1, key)
        _declare(entry, "value", 2, value)
        kind = f"*.{_PACKAGE}.{message.name}.{entry.name}"
    if kind.startswith("*"):
        field.label, kind = Field.LABEL_REPEATED, kind[1:]
    scalars = {"bool": Field.TYPE_BOOL, "string": Field.TYPE_STRING, "int64": Field.TYPE_INT64}
    if kind in scalars:
        field.type = scalars[kind]
    else:
        field.type = Field.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
