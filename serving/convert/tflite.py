"""SavedModel to TFLite: floats of 32 and 16 bits, dynamic range, int8, int16x8, sparse.

Comes in: a `Conversion` of one of these forms. Goes out: `model.tflite` with the one signature `predict` (`image` to
`probabilities`), any batch size and builtin operations only. Called by the worker process.

Options: `seed`, the seed of the representative sample, for the record; `output` and `scores` of `open_source`.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert import calibration, source
from serving.convert.job import Conversion
from serving.convert.scores import probe_images
from serving.convert.source import SIGNATURE, Source
from serving.errors import ConversionError

FILE = "model.tflite"
FLOAT_PARITY = 1e-4
_COMPARED = 32  # representative images
_PIXEL_SCALE = 1 / 255
_UNSUPPORTED = re.compile(r"(?:TF Select|Flex|Custom) ops: ([\w, ]+)|failed to legalize operation '(?:tf|tfl)\.(\w+)'")
_UNQUANTIZED = re.compile(r"Quantization not yet supported for op: '(\w+)'")


def convert(job: Conversion) -> dict[str, Any]:
    """Convert a SavedModel.

    Args:
        job: What to convert and where to.

    Returns:
        Details: what `place_checked` and `open_source` tell, the number of representative images and their seed.

    Raises:
        ConversionError: The source is no image classifier, an operation has no TFLite equivalent, the representative
            images are missing or unfit, or the file is not what was asked for.
    """
    model = source.open_source(job.saved_model, job.signature, job.options)
    sample = calibration.read(job, model.shape) if _is_calibrated(job.form, model) else None
    content = to_tflite(model, job.form, sample)
    details = {**model.details, "quantization_aware": model.quantization_aware, **(sample.details if sample else {})}
    return {**details, **place_checked(content, model, job, sample)}


def _is_calibrated(form: str, model: Source) -> bool:
    if form == "tflite_int16x8" and model.quantization_aware:
        raise ConversionError(
            "the model is quantization aware: its ranges are made for 8 bits. Convert it to tflite_int8, or its float "
            "model to tflite_int16x8."
        )
    # A quantization aware model brings its ranges along, and the converter would not look at the images.
    return form in ("tflite_int8", "tflite_int16x8") and not model.quantization_aware


def to_tflite(model: Source, form: str, sample: calibration.Calibration | None) -> bytes:
    """Translate a classifier.

    Args:
        model: The classifier.
        form: Name of the form.
        sample: Representative images for the forms that need them.

    Returns:
        Content of the file.

    Raises:
        ConversionError: TFLite's converter turns the model down; the message names the operations.
    """
    with tempfile.TemporaryDirectory(prefix="source-") as directory:
        converter = converter_of(source.save(model, Path(directory) / "model"))
        _set_up(converter, form, sample)
        return run(converter, model)


def converter_of(directory: Path) -> Any:
    """TFLite converter for the signature `predict` of a SavedModel, builtin operations only."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def run(converter: Any, model: Source) -> bytes:
    """Run a converter; its errors become reasons.

    Raises:
        ConversionError: The model cannot be converted.
    """
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        return bytes(converter.convert())
    except (ConverterError, RuntimeError, ValueError) as error:
        raise ConversionError(_reason(str(error), model)) from error


def _set_up(converter: Any, form: str, sample: calibration.Calibration | None) -> None:
    import tensorflow as tf

    if form == "tflite_float32":
        return
    if form == "tflite_sparse":
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if sample is not None:
        converter.representative_dataset = sample.batches
    if form == "tflite_float16":
        converter.target_spec.supported_types = [tf.float16]
    elif form == "tflite_int8":
        if sample is not None:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    elif form == "tflite_int16x8":
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]


def _reason(text: str, model: Source) -> str:
    named = {name.strip() for hit in _UNSUPPORTED.findall(text) for group in hit for name in group.split(",")} - {""}
    if named:
        return (
            f"TFLite has no builtin operation for {', '.join(sorted(named))}. Replace the layer in the model; files "
            "with Flex operations are not made, because no mobile runtime of the stock runs them."
        )
    unquantized = sorted(set(_UNQUANTIZED.findall(text)))
    if unquantized:
        return _stayed_float(unquantized)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (
        f"TFLite's converter turns the model down: {(lines or ['no message'])[0][:300].rstrip('. ')}. Its operations "
        f"are {', '.join(model.operations)}."
    )


def _stayed_float(operations: list[str]) -> str:
    return (
        f"TFLite cannot quantize {', '.join(operations)}. Replace the layer, or use tflite_float16, tflite_dynamic or "
        "tflite_mixed, which leave it in floats."
    )


def place_checked(
    content: bytes, model: Source, job: Conversion, sample: calibration.Calibration | None
) -> dict[str, Any]:
    """Write a converted file after a look at what it became.

    Args:
        content: The file.
        model: What it was made from.
        job: What was asked for.
        sample: Representative images of a calibrated form.

    Returns:
        Details: `operations` with their number, `max_abs_difference` of the probabilities to the source's.

    Raises:
        ConversionError: Inputs, outputs or quantization are not those of the form, or a form in 32-bit floats answers
            otherwise than its source.
    """
    job.out_dir.mkdir(parents=True, exist_ok=True)
    unfinished = job.out_dir / f"{FILE}.new"
    try:
        unfinished.write_bytes(content)
        operations = _check_interface(content, job.form)
        difference = _difference(unfinished, job.form, model, sample)
        if job.form in ("tflite_float32", "tflite_sparse") and not difference <= FLOAT_PARITY:
            raise ConversionError(
                f"the converted model differs from its source by up to {difference:.3g} in a probability; expected at "
                f"most {FLOAT_PARITY:g} for 32-bit floats."
            )
        os.replace(unfinished, job.out_dir / FILE)
    finally:
        unfinished.unlink(missing_ok=True)
    return {"operations": operations, "max_abs_difference": difference}


def _difference(file: Path, form: str, model: Source, sample: calibration.Calibration | None) -> float:
    """Largest difference of a probability; over images of the kind that a calibrated form was calibrated for."""
    from serving.forms import tflite
    from serving.forms.base import pixels_for

    images = probe_images(model.shape) if sample is None else sample.pixels[:_COMPARED]
    expected = np.asarray(model.function(images.astype(np.float32) / np.float32(255))["probabilities"])
    loaded = tflite.load_made_here(form, file)
    try:
        return float(np.abs(loaded.predict(pixels_for(loaded, images)) - expected).max())
    finally:
        loaded.close()


def _check_interface(content: bytes, form: str) -> dict[str, int]:
    from tensorflow.lite.python.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    signatures = interpreter.get_signature_list()
    if signatures != {SIGNATURE: {"inputs": ["image"], "outputs": ["probabilities"]}}:
        raise ConversionError(f"the converted file has the signatures {signatures}; expected one, predict.")
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    if image["shape_signature"][0] != -1:
        raise ConversionError("the converted file is bound to one batch size; expected any.")
    if form == "tflite_int8":
        _check_quantization(image, probabilities)
        _check_integers(interpreter)
    elif image["dtype"] != np.float32 or probabilities["dtype"] != np.float32:
        kinds = f"{np.dtype(image['dtype']).name} to {np.dtype(probabilities['dtype']).name}"
        raise ConversionError(f"the converted file maps {kinds}; expected float32 to float32.")
    return dict(sorted(Counter(op["op_name"] for op in interpreter._get_ops_details()).items()))


def _check_integers(interpreter: Any) -> None:
    """The converter leaves what it cannot quantize in floats without a word."""
    floats = {tensor["index"] for tensor in interpreter.get_tensor_details() if tensor["dtype"] == np.float32}
    left = {op["op_name"] for op in interpreter._get_ops_details() if not floats.isdisjoint(map(int, op["outputs"]))}
    left -= {"DEQUANTIZE", "QUANTIZE"}
    if left:
        raise ConversionError(_stayed_float(sorted(left)))


def _check_quantization(image: dict[str, Any], probabilities: dict[str, Any]) -> None:
    scale, zero = image["quantization"]
    if image["dtype"] != np.uint8 or zero != 0 or not np.isclose(scale, _PIXEL_SCALE, rtol=1e-6, atol=0):
        raise ConversionError(
            f"the input of the int8 file is {np.dtype(image['dtype']).name} with scale {scale:.9g} and zero point "
            f"{zero}; expected uint8 with 1/255 and 0, so that raw pixels are the input. The range at the input is not "
            "0 to 1: calibrate with images, or train quantization aware on images, that span black to white."
        )
    scale, zero = probabilities["quantization"]
    if probabilities["dtype"] != np.uint8 or zero != 0 or not np.isclose(scale, 1 / 256, rtol=1e-6, atol=0):
        raise ConversionError(
            f"the output of the int8 file is {np.dtype(probabilities['dtype']).name} with scale {scale:.9g} and zero "
            f"point {zero}; expected uint8 with 1/256 and 0. The model has to end in a softmax."
        )
