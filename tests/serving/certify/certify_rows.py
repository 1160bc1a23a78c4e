"""Rows and measurements for the tests of the certify package."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from serving.certify.table import Row
from serving.measure.latency import Timing
from serving.measure.measurement import Measurement
from serving.measure.operations import Operations
from serving.measure.quality import Quality
from serving.measure.size import Size

RUNTIMES = {
    "saved_model": "saved_model",
    "tflite": "tflite",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tftrt": "tftrt",
}


def row(variant: str, **values: Any) -> Row:
    """A row with plausible figures; the technique is what stands before the form in the name."""
    head = next(name for name in RUNTIMES if variant == name or f"_{name}" in f"_{variant}")
    place = f"_{variant}".index(f"_{head}")
    technique, form = variant[:place].rstrip("_"), variant[place:]
    standard: dict[str, Any] = {
        "status": "ok",
        "bytes": 100_000,
        "gz_bytes": 80_000,
        "accuracy": 0.9,
        "delta": 0.0,
        "ci95_low": -0.001,
        "ci95_high": 0.001,
        "top1_agreement": 0.99,
        "cpu_ms_b1_p50": 1.0,
        "ratio": 3.0,
        "ratio_b32": 1.0,
        "contention": 1.0,
        "gpu_delegate_ok": True if head == "tflite" else None,
        "flex_operations": 0,
    }
    return Row(variant=variant, technique=technique, form=form, runtime=RUNTIMES[head], **{**standard, **values})


def absent(variant: str, status: str, reason: str) -> Row:
    """A row without figures."""
    return Row(
        variant=variant,
        technique="",
        form=variant,
        runtime=RUNTIMES[variant.partition("_")[0]],
        status=status,
        reason=reason,
    )  # type: ignore[arg-type]


def figures(**values: Any) -> Quality:
    """A quality that passes every budget."""
    standard = Quality(
        images=10_000,
        classes=10,
        accuracy=0.9,
        reference_accuracy=0.9,
        delta=0.0,
        ci95_low=-0.001,
        ci95_high=0.001,
        worst_class=3,
        worst_class_drop=0.0,
        worst_class_images=1000,
        top1_agreement=0.99,
        max_abs_difference=1e-6,
        log_loss=0.3,
        reference_log_loss=0.3,
    )
    return dataclasses.replace(standard, **values)


def timing(batch: int = 1, ratio: float = 5.0, **values: Any) -> Timing:
    """A timing of 1 ms per call."""
    standard = Timing(batch, 200, 1, 1.0, 1.1, 0.9, 1.0, 1.2, batch * 1000.0, 1.0, ratio)
    return dataclasses.replace(standard, **values)


def measured(form: str = "tflite_int8", variant: str = "", **values: Any) -> Measurement:
    """A measurement that passes every budget."""
    standard = Measurement(
        variant or form,
        form,
        Path("model"),
        choose=figures(),
        report=figures(accuracy=0.91),
        size=Size(93_880, 79_847, "ab" * 32),
        operations=Operations(78_000, 12_500_000, 0.25, 20, gpu_delegate_ok=True),
        timings={1: timing(), 32: timing(32)},
        environment={"cpu": "some"},
    )
    return dataclasses.replace(standard, **values)
