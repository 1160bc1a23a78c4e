"""SavedModel to OpenVINO's format.

Comes in: a `Conversion` of the form `openvino_float32` or `openvino_bfloat16`. Goes out: `model.xml` and `model.bin`
with the input `image`, the output `probabilities` and any batch size. Called by the worker process.

Both forms are the same files; the precision is chosen when they are loaded. The function is translated directly,
without ONNX between, so that names survive and one package is enough.

Options: `compress_to_fp16` (False) stores weights as 16-bit floats: half the size, for a small loss.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert.job import Conversion
from serving.convert.scores import probe_images
from serving.convert.source import INPUT, Source, open_source
from serving.errors import ConversionError, UnavailableError
from serving.forms import openvino as loader

FILE = "model.xml"
OUTPUT = "probabilities"
_UNCONVERTED = "No conversion rule found"


def convert(job: Conversion) -> dict[str, Any]:
    """Convert a SavedModel.

    Args:
        job: What to convert and where to.

    Returns:
        Details: `compress_to_fp16`, `precision` of the calculation, `max_abs_difference` of the probabilities to the
        source's in that precision, and what `open_source` tells.

    Raises:
        UnavailableError: OpenVINO is missing, or the form asks for bfloat16 and the CPU has none.
        ServingError: The source cannot be read, or holds an operation that OpenVINO has no equivalent for.
    """
    compress = job.options.get("compress_to_fp16", False)
    if not isinstance(compress, bool):
        raise ConversionError(f"the option `compress_to_fp16` is {compress!r}; expected true or false.")
    openvino = loader.runtime(job.form)
    if job.form == "openvino_bfloat16" and not loader.calculates_bfloat16(openvino.Core()):
        raise UnavailableError(loader.NO_BFLOAT16.format(form=job.form))
    source = open_source(job.saved_model, job.signature, job.options)
    model = _translate(openvino, source)
    job.out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=job.out_dir) as scratch:
        file = Path(scratch) / FILE
        openvino.save_model(model, str(file), compress_to_fp16=compress)
        difference = _parity(job.form, file, source)
        # The weights first: whoever finds the .xml finds its .bin.
        for made in (file.with_suffix(".bin"), file):
            os.replace(made, job.out_dir / made.name)
    return {
        **source.details,
        "compress_to_fp16": compress,
        "precision": loader.PRECISIONS[job.form],
        "max_abs_difference": difference,
    }


def _translate(openvino: Any, source: Source) -> Any:
    try:
        model = openvino.convert_model(source.function)
    except Exception as error:
        # The translator wraps what it meets in plain Exception.
        lines = [line.strip("- ") for line in str(error).splitlines() if line.strip("- ")] or [type(error).__name__]
        telling = next((line for line in lines if line.startswith(_UNCONVERTED)), lines[-1])
        version = openvino.__version__.partition("-")[0]
        raise ConversionError(
            f"OpenVINO {version} cannot translate the model: {telling[:300].rstrip('. ')}. "
            f"Its operations are {', '.join(source.operations)}."
        ) from error
    ends = [sorted(end.get_names()) for end in (*model.inputs, *model.outputs)]
    if len(ends) != 2 or INPUT not in ends[0] or OUTPUT not in ends[1]:
        raise ConversionError(f"the translated model connects {ends}; expected {INPUT} to {OUTPUT}.")
    if model.inputs[0].get_partial_shape()[0].is_static:
        raise ConversionError("the translated model is bound to one batch size; expected any.")
    # Aliases such as `image:0` would reach whoever loads the file.
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    return model


def _parity(form: str, file: Path, source: Source) -> float:
    """Largest difference of a probability between the file and its source, over a few probe images."""
    images = probe_images(source.shape).astype(np.float32) / np.float32(255)
    model = loader.load(form, file)
    try:
        answers = model.predict(images)
    finally:
        model.close()
    expected = np.asarray(source.function(images)[OUTPUT])
    if answers.shape != expected.shape or not np.isfinite(answers).all():
        raise ConversionError(
            f"the converted model answers {len(images)} images with {list(answers.shape)}, expected finite "
            f"{list(expected.shape)}."
        )
    return float(np.abs(answers - expected).max())
