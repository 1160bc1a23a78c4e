"""Builders of small real TFLite files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def build_tflite(file: Path, rows: int | None = None) -> None:
    """Write a model with the signature `predict`: y = x * [1, 2, 3] + 1 on [rows, 3]; None for any number of rows."""
    import tensorflow as tf

    class Scaler(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([rows, 3], tf.float32, name="x")], autograph=False)
        def __call__(self, x: Any) -> dict[str, Any]:
            return {"y": x * tf.constant([1.0, 2.0, 3.0]) + 1.0}

    module = Scaler()
    tf.saved_model.save(module, str(file.parent / f"{file.stem}-source"), signatures={"predict": module.__call__})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(file.parent / f"{file.stem}-source"), signature_keys=["predict"]
    )
    file.write_bytes(converter.convert())


def with_signature_defs(content: bytes, tensor: str | None = None, garbage: bool = False) -> bytes:
    """Put a SignatureDef `declared` (left -> right) into the metadata of a file, as TensorFlow's tools do.

    Args:
        content: The file.
        tensor: Tensor that `left` names; None for the input of the file.
        garbage: Write bytes that are no SignatureDef.
    """
    import flatbuffers
    from flatbuffers import flexbuffers
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    proto = meta_graph_pb2.SignatureDef(method_name="my/method")
    for infos, key, index in ((proto.inputs, "left", graph.inputs[0]), (proto.outputs, "right", graph.outputs[0])):
        infos[key].name = graph.tensors[index].name.decode()
        infos[key].dtype = 1
    if tensor is not None:
        proto.inputs["left"].name = tensor
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Key("declared")
        # The public method for strings takes text only.
        serialized = b"\xff" * 9 if garbage else proto.SerializeToString()
        builder._WriteBlob(serialized, append_zero=True, type_=flexbuffers.Type.STRING)
    buffer = schema.BufferT()
    buffer.data = list(builder.Finish())
    entry = schema.MetadataT()
    entry.name, entry.buffer = "signature_defs_metadata", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    writer = flatbuffers.Builder(1024)
    writer.Finish(model.Pack(writer), file_identifier=b"TFL3")
    return bytes(writer.Output())
