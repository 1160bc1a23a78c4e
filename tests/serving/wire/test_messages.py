"""The table of messages against the descriptors of TensorFlow and TensorFlow Serving."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from serving.wire import messages
from serving.wire.schema import message_classes

VARINT = {"int64", "uint64", "int32", "bool", "uint32", "enum"}
KINDS = {
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    8: "bool",
    9: "string",
    11: "message",
    12: "bytes",
}
KINDS |= {13: "uint32", 14: "enum"}
# Messages that stand under another name in their own files.
OTHER_NAMES = {
    "Dim": "tensorflow.TensorShapeProto.Dim",
    "TypedTensorProto": "tensorflow.TensorProto",
    "Int64Value": "google.protobuf.Int64Value",
    "Any": "google.protobuf.Any",
    "HealthCheckRequest": "grpc.health.v1.HealthCheckRequest",
    "HealthCheckResponse": "grpc.health.v1.HealthCheckResponse",
}
POLICY = "tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy"
OTHER_NAMES |= {"ServableVersionPolicy": POLICY}
OTHER_NAMES |= {name: f"{POLICY}.{name}" for name in ("Latest", "All", "Specific")}


@pytest.fixture(scope="module")
def pool() -> Any:
    from google.protobuf import descriptor_pool
    from grpc_health.v1 import health_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        prediction_log_pb2,
    )

    # Importing them put their messages into the pool.
    assert all((health_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2))
    assert all((model_management_pb2, prediction_log_pb2))
    return descriptor_pool.Default()


def original(pool: Any, name: str) -> Any:
    for candidate in (OTHER_NAMES.get(name, ""), f"tensorflow.serving.{name}", f"tensorflow.{name}"):
        try:
            return pool.FindMessageTypeByName(candidate)
        except KeyError:
            continue
    raise AssertionError(f"{name} is no message of TensorFlow Serving")


def bytes_alike(ours: Any, theirs: Any) -> bool:
    """Whether two types of a field have the same bytes."""
    one, other = KINDS[ours.type], KINDS[theirs.type]
    if one == other == "message":
        return True
    if one == "bytes":
        # Whole messages that are passed on, text, or packed numbers.
        return other in ("message", "string", "bytes") or bool(theirs.label == theirs.LABEL_REPEATED)
    return one == other or {one, other} <= VARINT


@pytest.mark.parametrize("name", sorted(messages._classes))
def test_fields_have_the_numbers_and_types_of_tensorflow_serving(name: str, pool: Any) -> None:
    theirs = original(pool, name)
    for field in messages._classes[name].DESCRIPTOR.fields:
        twin = theirs.fields_by_name[field.name]
        assert field.number == twin.number
        assert bytes_alike(field, twin), (field.name, KINDS[twin.type])
        packed = KINDS[field.type] == "bytes" and KINDS[twin.type] not in ("message", "string", "bytes")
        assert field.label == twin.label or packed
        choice = field.containing_oneof and field.containing_oneof.name
        assert choice == (twin.containing_oneof and twin.containing_oneof.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            assert twin.message_type.GetOptions().map_entry
            for part in ("key", "value"):
                assert bytes_alike(field.message_type.fields_by_name[part], twin.message_type.fields_by_name[part])


def test_a_request_travels_both_ways() -> None:
    from tensorflow_serving.apis import predict_pb2

    theirs = predict_pb2.PredictRequest(output_filter=["a", "b"], client_id=b"me")
    theirs.model_spec.name = "pets"
    theirs.model_spec.version.value = 0
    theirs.inputs["x"].dtype = 1
    theirs.inputs["x"].float_val.extend([1.5, 2.5])
    theirs.inputs["x"].tensor_shape.dim.add(size=2, name="rows")
    ours = messages.PredictRequest.FromString(theirs.SerializeToString())
    assert ours.model_spec.WhichOneof("version_choice") == "version"
    assert list(ours.output_filter) == ["a", "b"]
    # Also what our table does not know.
    assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == theirs


def test_examples_that_are_passed_on_stay_examples() -> None:
    from tensorflow_serving.apis import classification_pb2

    theirs = classification_pb2.ClassificationRequest()
    example = theirs.input.example_list.examples.add()
    example.features.feature["a"].int64_list.value.append(7)
    ours = messages.ClassificationRequest.FromString(theirs.SerializeToString())
    assert list(ours.input.example_list.examples) == [example.SerializeToString()]
    assert classification_pb2.ClassificationRequest.FromString(ours.SerializeToString()) == theirs


def test_the_text_of_a_model_config_is_read() -> None:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = """model_config_list { config { name: "pets" base_path: "/models/pets" model_platform: "tensorflow"
        model_version_policy { specific { versions: 3 versions: 4 } }
        version_labels { key: "stable" value: 3 } } }"""
    ours = text_format.Parse(text, messages.ModelServerConfig())
    theirs = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert model_server_config_pb2.ModelServerConfig.FromString(ours.SerializeToString()) == theirs


def test_the_messages_need_no_tensorflow() -> None:
    code = (
        "import sys, serving.wire.messages, serving.wire.tensors, serving.wire.tfrecord\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'tensorflow', 'tensorflow_serving', 'grpc'})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("table", ["  name 1 string", "A\n  name one string", "A\n  name 1"])
def test_a_table_that_makes_no_sense_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match="expected `Message`"):
        message_classes("test.wire", table)
