"""SavedModel to ONNX in 8-bit integers, calibrated on representative images.

Comes in: a `Conversion` of the form `onnx_int8`. Goes out: `model.onnx` in QDQ format (quantize and dequantize
nodes around float operators, which ONNX Runtime fuses): activations uint8, weights int8 per output channel,
`image` and `probabilities` in floats. Called by the worker process.

Options: `opset` as in `serving.convert.onnx`; `seed`, with which the representative images were drawn, is recorded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert import calibration
from serving.convert import onnx as onnx_float32
from serving.convert.job import Conversion
from serving.convert.source import INPUT, open_source
from serving.errors import ConversionError

_BATCH = 32


def convert(job: Conversion) -> dict[str, Any]:
    """Convert and quantize a SavedModel.

    Args:
        job: What to convert and where to, with representative images.

    Returns:
        Details as of `onnx_float32`, of the quantized model, with the representative images and their seed.

    Raises:
        ServingError: No or unfit representative images, or the model cannot be converted or quantized.
    """
    source = open_source(job.saved_model, job.signature, job.options)
    sample = calibration.read(job, source.shape)
    model = onnx_float32.to_onnx(source, onnx_float32.opset_of(job))
    with tempfile.TemporaryDirectory(prefix="slipway-onnx-") as scratch:
        quantized = _quantize(model, sample.pixels, Path(scratch))
    content = quantized.SerializeToString(deterministic=True)
    difference = onnx_float32.parity(content, source)
    onnx_float32.place(content, job.out_dir / onnx_float32.FILE)
    return {
        **source.details,
        **onnx_float32.describe(quantized),
        **sample.details,
        "max_abs_difference": difference,
    }


def _quantize(model: Any, pixels: np.ndarray, scratch: Path) -> Any:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, target = scratch / "prepared.onnx", scratch / "quantized.onnx"
    try:
        quant_pre_process(model, str(prepared))
        quantization.quantize_static(
            str(prepared),
            str(target),
            _reader(pixels),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # Probabilities in steps of 1/256 would not even sum to 1.
            nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == "Softmax"],
        )
    except Exception as error:
        # The quantizer raises what its operators happen to raise, down to plain Exception.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConversionError(f"ONNX Runtime cannot quantize the model: {lines[0][:300].rstrip('. ')}.") from error
    return onnx.load(str(target))


def _reader(pixels: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Feeds the images batch by batch, as floats in [0, 1]."""

        def __init__(self) -> None:
            self._feeds = _feeds(pixels)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch, or None after the last."""
            return next(self._feeds, None)

    return Reader()


def _feeds(pixels: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(pixels), _BATCH):
        yield {INPUT: pixels[start : start + _BATCH].astype(np.float32) / np.float32(255)}
