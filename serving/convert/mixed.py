"""SavedModel to TFLite in mixed precision: 8-bit integers, but floats where integers cost too much accuracy.

Comes in: a `Conversion` of the form `tflite_mixed`. Goes out: `model.tflite`, float32 in and out. Called by the worker
process.

The model is calibrated once. Then each operation is quantized alone, all others in floats, and the shift of the
probabilities that follows is its sensitivity. The most sensitive operations go back to floats, one after the other,
until the drop of accuracy on labeled images is within the budget.

Options: `budget` (0.01), the largest drop of accuracy, as a share; `images`, the .npz file with the labeled images to
measure on (the representative images if left out); `seed` for the record; `output` and `scores` of `open_source`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert import calibration, source, tflite
from serving.convert.job import Conversion
from serving.convert.source import Source
from serving.errors import ConversionError, ServingError
from serving.forms.tflite import TfliteForm
from serving.measure import images as image_files
from serving.measure.images import ImageBatches

_BUDGET = 0.01
# The order of the operations needs fewer images than the accuracy.
_SENSITIVITY_IMAGES = 500


@dataclass(frozen=True)
class _Labeled:
    """The labeled images and what the float model makes of them."""

    images: ImageBatches
    probabilities: np.ndarray
    accuracy: float


def convert(job: Conversion) -> dict[str, Any]:
    """Convert a SavedModel.

    Args:
        job: What to convert and where to; `keep_float` names operations that stay in floats in any case.

    Returns:
        Details: `budget`, `float_accuracy`, `accuracy`, `kept_float` (in the order in which they were kept),
        `sensitivities` (operation and mean total variation distance, most sensitive first), `steps` (accuracy with so
        many operations kept), and what the other TFLite forms tell.

    Raises:
        ConversionError: As the other TFLite forms; or the budget is no share, an operation to keep does not exist, or
            the model is quantization aware already.
    """
    budget = _budget(job.options)
    model = source.open_source(job.saved_model, job.signature, job.options)
    if model.quantization_aware:
        raise ConversionError(
            "the model is quantization aware already: training chose the ranges of all its layers. Convert it to "
            "tflite_int8, or its float model to tflite_mixed."
        )
    sample = calibration.read(job, model.shape)
    labeled = _labeled(job, model)
    calibrated = _calibrate(model, sample)
    nodes = _quantizable(calibrated)
    unknown = [name for name in job.keep_float if name not in nodes]
    if unknown:
        raise ConversionError(
            f"there is no operation {unknown[0]!r} to keep in floats; expected of {', '.join(nodes)}."
        )
    shifts = _sensitivities(calibrated, nodes, labeled)
    content, found = _search(calibrated, job.keep_float, shifts, labeled, budget)
    details = {
        **model.details,
        **sample.details,
        "budget": budget,
        "labeled_images": labeled.images.size,
        "float_accuracy": labeled.accuracy,
        "sensitivities": [{"node": node, "operation": nodes[node], "shift": shift} for node, shift in shifts.items()],
        **found,
    }
    return {**details, **tflite.place_checked(content, model, job, sample)}


def _budget(options: Mapping[str, Any]) -> float:
    budget = options.get("budget", _BUDGET)
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 <= budget <= 1:
        raise ConversionError(f"the option `budget` is {budget!r}; expected a share of accuracy from 0 to 1.")
    return float(budget)


def _labeled(job: Conversion, model: Source) -> _Labeled:
    path = job.options.get("images", job.representative)
    try:
        images = image_files.load(str(path))
    except ServingError as error:
        raise ConversionError(f"the labeled images cannot be used: {error}") from error
    if images.shape != model.shape:
        raise ConversionError(f"the labeled images are {images.shape}; the model takes {model.shape}.")
    parts, right = [], 0
    for pixels, labels in images.read():
        answers = np.asarray(model.function(pixels.astype(np.float32) / np.float32(255))["probabilities"])
        right += int((answers.argmax(axis=1) == labels).sum())
        parts.append(answers)
    return _Labeled(images, np.concatenate(parts), right / images.size)


def _calibrate(model: Source, sample: calibration.Calibration) -> bytes:
    """Float TFLite model with the range of every activation in it."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="source-") as directory:
        converter = tflite.converter_of(source.save(model, Path(directory) / "model"))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = sample.batches
        # What tf.lite.experimental.QuantizationDebugger does; the debugger itself fails where nothing is quantized.
        converter._experimental_calibrate_only = True
        return tflite.run(converter, model)


def _quantize(calibrated: bytes, keep_float: Sequence[str]) -> bytes:
    from tensorflow.lite.python.convert import mlir_quantize

    return bytes(mlir_quantize(calibrated, denylisted_nodes=list(keep_float)))


def _quantizable(calibrated: bytes) -> dict[str, str]:
    """Operations that come out in integers when all may: name of the output and kind, in the order of the graph."""
    integers = {name for name, _, dtype in _outputs(_quantize(calibrated, ())) if dtype == np.int8}
    # Where integers are turned back into floats, the float keeps the name, and the integer gets a 1 behind it.
    return {name: kind for name, kind, _ in _outputs(calibrated) if not integers.isdisjoint((name, f"{name}1"))}


def _outputs(content: bytes) -> list[tuple[str, str, Any]]:
    """Name, operation and dtype of the first output of each operation."""
    import tensorflow as tf

    # Without the delegate, which would show up as one operation in place of many.
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    found = []
    for operation in interpreter._get_ops_details():
        if len(operation["outputs"]):
            tensor = interpreter._get_tensor_details(operation["outputs"][0], 0)
            found.append((tensor["name"], operation["op_name"], tensor["dtype"]))
    return found


def _sensitivities(calibrated: bytes, nodes: Mapping[str, str], labeled: _Labeled) -> dict[str, float]:
    """Shift of the probabilities by each operation alone, the largest first."""
    shifts = {}
    for node in nodes:
        content = _quantize(calibrated, [other for other in nodes if other != node])
        answers, _ = _answers(content, labeled.images, _SENSITIVITY_IMAGES)
        distance = 0.5 * np.abs(answers - labeled.probabilities[: len(answers)]).sum(axis=1)
        shifts[node] = round(float(distance.mean()), 7)
    return dict(sorted(shifts.items(), key=lambda item: -item[1]))


def _search(
    calibrated: bytes, keep_float: Sequence[str], shifts: Mapping[str, float], labeled: _Labeled, budget: float
) -> tuple[bytes, dict[str, Any]]:
    """Keep operations in floats, the most sensitive first, until the drop of accuracy is within the budget."""
    kept = list(keep_float)
    waiting = [node for node in shifts if node not in kept]
    steps: list[dict[str, Any]] = []
    while True:
        content = _quantize(calibrated, kept)
        answers, labels = _answers(content, labeled.images, labeled.images.size)
        accuracy = float((answers.argmax(axis=1) == labels).mean())
        steps.append({"kept_float": len(kept), "accuracy": accuracy})
        # Accuracies are counts over one number of images; half an image absorbs the rounding of their difference.
        within = labeled.accuracy - accuracy <= budget + 0.5 / labeled.images.size
        if within or not waiting:
            return content, {"kept_float": kept, "accuracy": accuracy, "steps": steps}
        kept.append(waiting.pop(0))


def _answers(content: bytes, images: ImageBatches, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of the first images, at least `limit` of them, if there are so many."""
    model = TfliteForm(content, "a candidate in mixed precision", threads=1)
    parts: list[np.ndarray] = []
    found: list[np.ndarray] = []
    try:
        for pixels, labels in images.read():
            parts.append(model.predict(pixels.astype(np.float32) / np.float32(255)))
            found.append(labels)
            if sum(map(len, found)) >= limit:
                break
    finally:
        model.close()
    return np.concatenate(parts), np.concatenate(found)
