"""Signatures of a TFLite file, as TensorFlow Serving derives them for `--prefer_tflite_model`.

Comes in: the content of a file and its interpreter. Goes out: the `SignatureDef`s that metadata calls show, and for
each signature which tensor of the interpreter belongs to which name. Called by `serving.server.tflite_servable`.

TensorFlow Serving takes the SignatureDefs in the file's metadata. If there are none it makes one up,
`serving_default`, whose names are those of the tensors without what follows a colon. Signatures that the TFLite
converter wrote itself, which it does not look at, are served under their own names as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from serving.edge.flatbuffer import Table
from serving.edge.tflite_file import IDENTIFIER, ModelField
from serving.errors import ModelLoadError
from serving.server.servable import DEFAULT_SIGNATURE
from serving.signature import Signature, TensorSpec

_METADATA_NAME = "signature_defs_metadata"
_PREDICT = "tensorflow/serving/predict"


@dataclass(frozen=True)
class TfliteSignature:
    """A signature of a TFLite file.

    Attributes:
        signature: Names, dtypes and shapes; None for a size that the file leaves open.
        proto: The `SignatureDef` that metadata calls show.
        inputs: Index of the tensor of each input, by name.
        outputs: Index of the tensor of each output, by name.
    """

    signature: Signature
    proto: Any
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


def read_signatures(content: bytes, interpreter: Any, where: str) -> dict[str, TfliteSignature]:
    """Derive the signatures of a file.

    Args:
        content: The file.
        interpreter: An interpreter of it.
        where: Its name, for messages.

    Raises:
        ModelLoadError: The metadata is damaged or names tensors that do not exist.
    """
    inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
    outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
    declared = _declared(content, where)
    if declared:
        return {name: _from_proto(name, proto, inputs, outputs, where) for name, proto in declared.items()}
    made_up = _from_details(
        DEFAULT_SIGNATURE,
        {name.split(":")[0]: detail for name, detail in inputs.items()},
        {name.split(":")[0]: detail for name, detail in outputs.items()},
    )
    found = {DEFAULT_SIGNATURE: made_up}
    by_index = {detail["index"]: detail for detail in (*inputs.values(), *outputs.values())}
    for name, tensors in interpreter._get_full_signature_list().items():
        indices = [*tensors["inputs"].values(), *tensors["outputs"].values()]
        if name not in found and all(index in by_index for index in indices):
            named_inputs = {key: by_index[index] for key, index in tensors["inputs"].items()}
            named_outputs = {key: by_index[index] for key, index in tensors["outputs"].items()}
            found[name] = _from_details(name, named_inputs, named_outputs)
    return found


def _declared(content: bytes, where: str) -> dict[str, Any]:
    """SignatureDefs in the metadata of a file, by name."""
    from flatbuffers import flexbuffers
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import meta_graph_pb2

    model = Table.root(content, IDENTIFIER)
    buffers = model.tables(ModelField.BUFFERS)
    for entry in model.tables(ModelField.METADATA):
        if entry.text(0) != _METADATA_NAME:
            continue
        try:
            held = flexbuffers.GetRoot(buffers[int(entry.number(1, "I"))].blob(0)).AsMap
            pairs = zip(held.Keys, held.Values, strict=True)
            return {
                key.AsKey: meta_graph_pb2.SignatureDef.FromString(bytes(value.AsStringBytes)) for key, value in pairs
            }
        except (DecodeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise ModelLoadError(
                f"Invalid SignatureDefs found in TfLite model: {where}: {error}. Convert it again."
            ) from error
    return {}


def _from_proto(
    name: str, proto: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], where: str
) -> TfliteSignature:
    def find(tensor: str, details: Mapping[str, Any]) -> Any:
        # Early converters dropped what follows the colon from the names of tensors.
        detail = details.get(tensor) or details.get(tensor.split(":")[0])
        if detail is None:
            raise ModelLoadError(
                f"{where}: signature {name!r} names the tensor {tensor!r}; the file has {', '.join(details) or 'none'}."
            )
        return detail

    named_inputs = {key: find(info.name, inputs) for key, info in proto.inputs.items()}
    named_outputs = {key: find(info.name, outputs) for key, info in proto.outputs.items()}
    plain = _from_details(name, named_inputs, named_outputs, proto.method_name)
    return TfliteSignature(plain.signature, proto, plain.inputs, plain.outputs)


def _from_details(
    name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str = _PREDICT
) -> TfliteSignature:
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow.python.framework import dtypes

    proto = meta_graph_pb2.SignatureDef(method_name=method)
    for details, infos in ((inputs, proto.inputs), (outputs, proto.outputs)):
        for key, detail in details.items():
            infos[key].name = detail["name"]
            infos[key].dtype = dtypes.as_dtype(_dtype(detail)).as_datatype_enum
            for size in detail["shape"]:
                infos[key].tensor_shape.dim.add().size = int(size)
    signature = Signature(name, method, _specs(inputs), _specs(outputs))
    return TfliteSignature(signature, proto, _indices(inputs), _indices(outputs))


def _specs(details: Mapping[str, Any]) -> Mapping[str, TensorSpec]:
    specs = {}
    for key in sorted(details):
        detail = details[key]
        dtype = _dtype(detail)
        name = "string" if dtype.kind == "O" else dtype.name
        shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
        specs[key] = TensorSpec(key, detail["name"], name, shape, dtype)
    return MappingProxyType(specs)


def _dtype(detail: Any) -> np.dtype[Any]:
    dtype = np.dtype(detail["dtype"])
    return np.dtype(object) if dtype.kind in "OSU" else dtype


def _indices(details: Mapping[str, Any]) -> Mapping[str, int]:
    return {key: int(detail["index"]) for key, detail in details.items()}
