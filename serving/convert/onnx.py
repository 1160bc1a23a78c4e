"""SavedModel to ONNX in 32-bit floats.

Comes in: a `Conversion` of the form `onnx_float32`. Goes out: `model.onnx` with the input `image`, the output
`probabilities` and any batch size. Called by the worker process, which tf2onnx may spoil: it patches TensorFlow's
global state. `to_onnx` also feeds `serving.convert.onnx_int8`.

Options: `opset` (17), the version of ONNX's operators.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert.job import Conversion
from serving.convert.scores import probe_images
from serving.convert.source import INPUT, Source, open_source
from serving.errors import ConversionError

FILE = "model.onnx"
OUTPUT = "probabilities"
_OPSET = 17
_BATCH = "N"


def convert(job: Conversion) -> dict[str, Any]:
    """Convert a SavedModel.

    Args:
        job: What to convert and where to.

    Returns:
        Details: `opset`, `operations` of the graph with their number, `max_abs_difference` of the probabilities to
        the source's, and what `open_source` tells.

    Raises:
        ServingError: The source cannot be read, or holds an operation that ONNX has no equivalent for.
    """
    source = open_source(job.saved_model, job.signature, job.options)
    model = to_onnx(source, opset_of(job))
    content = model.SerializeToString(deterministic=True)
    difference = parity(content, source)
    place(content, job.out_dir / FILE)
    return {**source.details, **describe(model), "max_abs_difference": difference}


def to_onnx(source: Source, opset: int = _OPSET) -> Any:
    """Translate a classifier.

    Args:
        source: The classifier.
        opset: Version of ONNX's operators.

    Returns:
        `onnx.ModelProto` that ONNX's checker accepts: `image` float32 [N, H, W, C] to `probabilities` float32 [N, K].

    Raises:
        ConversionError: An operation has no equivalent, or the result is not the expected model.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    function = tf.function(
        lambda image: {OUTPUT: source.function(image)[OUTPUT]},
        input_signature=[tf.TensorSpec([None, *source.shape], tf.float32, name=INPUT)],
        autograph=False,
    )
    try:
        model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=opset)
    except Exception as error:
        # tf2onnx raises what its translators happen to raise: KeyError, AttributeError, ValueError and others.
        raise ConversionError(
            f"tf2onnx {tf2onnx.__version__} cannot translate the model to opset {opset}: {_brief(error)}. "
            f"Its operations are {', '.join(source.operations)}."
        ) from error
    _name_batch(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(f"ONNX's checker turns the translated model down: {_brief(error)}.") from error
    _check_interface(model)
    return model


def parity(content: bytes, source: Source) -> float:
    """Largest difference of a probability between an ONNX model and its source, over a few probe images.

    Args:
        content: The serialized model.
        source: The classifier it was made from.

    Raises:
        ConversionError: ONNX Runtime cannot run the model.
    """
    import onnxruntime

    images = probe_images(source.shape).astype(np.float32) / np.float32(255)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (answers,) = session.run([OUTPUT], {INPUT: images})
    except Exception as error:
        # The runtime's own exceptions share no base class but this one.
        raise ConversionError(f"ONNX Runtime cannot run the converted model: {_brief(error)}.") from error
    expected = np.asarray(source.function(images)[OUTPUT])
    if answers.shape != expected.shape or not np.isfinite(answers).all():
        raise ConversionError(
            f"the converted model answers {len(images)} images with {list(answers.shape)}, expected finite "
            f"{list(expected.shape)}."
        )
    return float(np.abs(answers - expected).max())


def describe(model: Any) -> dict[str, Any]:
    """Opset and operations of an ONNX model, for the details of the outcome."""
    operations: dict[str, int] = {}
    for node in model.graph.node:
        operations[node.op_type] = operations.get(node.op_type, 0) + 1
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    return {"opset": opset, "operations": dict(sorted(operations.items()))}


def place(content: bytes, target: Path) -> None:
    """Write a file as a whole or not at all; makes its directory."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.new")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def opset_of(job: Conversion) -> int:
    """The option `opset` of a job, checked."""
    opset = job.options.get("opset", _OPSET)
    # Per-channel quantization begins with 13; tf2onnx 1.17 ends with 18.
    if isinstance(opset, bool) or not isinstance(opset, int) or not 13 <= opset <= 18:
        raise ConversionError(f"the option `opset` is {opset!r}; expected a number from 13 to 18.")
    return opset


def _name_batch(model: Any) -> None:
    """Call the open batch dimension N at both ends; tf2onnx calls it unk__ with a number of its own."""
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_param = _BATCH


def _check_interface(model: Any) -> None:
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    if inputs != [INPUT] or outputs != [OUTPUT]:
        raise ConversionError(f"the translated model maps {inputs} to {outputs}; expected {INPUT} to {OUTPUT}.")
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            raise ConversionError(f"{value.name} of the translated model is bound to one batch size; expected any.")


def _brief(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}".rstrip(". ") if lines else type(error).__name__
