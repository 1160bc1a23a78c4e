"""The gate: what a variant may lose and cost, and a verdict with every value beside its threshold.

Comes in: a measurement and a `Budget`. Goes out: a `Verdict`. Called by the pipeline's optimizer and the benchmark.
The split named `choose` decides; the split named `report` is only compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serving.errors import ServingError
from serving.measure.measurement import Measurement
from serving.measure.quality import Quality

_FLOAT_FORMS = frozenset({"tflite_float32", "tflite_sparse", "onnx_float32", "openvino_float32", "tftrt_fp32"})
_GPU_FORMS = frozenset({"tflite_float32", "tflite_float16"})


@dataclass(frozen=True)
class Budget:
    """What a variant may lose and cost; None switches a limit off.

    Attributes:
        max_accuracy_drop: Largest loss of accuracy, as a share: the lower end of the paired 95 % interval must not
            lie below its negative, so that few images or many flips count against a variant.
        max_worst_class_drop: Largest loss of accuracy of any one class. A single image is never held against a
            class, however few it has.
        min_top1_agreement: Smallest share of images for which a converted model chooses the reference's class.
        min_top1_agreement_trained: The same for variants that were trained further; their weights differ on
            purpose.
        max_float_difference: Largest difference of a probability for forms that calculate in 32-bit floats and
            were not trained further: they are the same function.
        max_bytes: Largest TensorFlow Lite file.
        max_gz_bytes: Largest TensorFlow Lite file after gzip.
        min_speedup: Smallest ratio of the reference's CPU time at batch size 1 to the variant's. Forms meant for
            a GPU are exempt, as a CPU says nothing about them.
        require_gpu_delegate: Whether float TensorFlow Lite files must run on the GPU delegate as a whole.
    """

    max_accuracy_drop: float | None = 0.015
    max_worst_class_drop: float | None = 0.05
    min_top1_agreement: float | None = 0.97
    min_top1_agreement_trained: float | None = None
    max_float_difference: float | None = 1e-4
    max_bytes: int | None = None
    max_gz_bytes: int | None = None
    min_speedup: float | None = None
    require_gpu_delegate: bool = False

    def __post_init__(self) -> None:
        """Refuse limits that nothing or everything would pass by mistake."""
        for name in ("max_accuracy_drop", "max_worst_class_drop", "min_top1_agreement", "min_top1_agreement_trained"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ServingError(f"{name} is {value}; expected a share from 0 to 1, such as 0.015 for 1.5 points.")
        for name in ("max_float_difference", "max_bytes", "max_gz_bytes", "min_speedup"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ServingError(f"{name} is {value}; expected a number above 0, or nothing to switch it off.")


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a variant.

    Attributes:
        status: `ok` or `refused`; `failed` if it could not be measured.
        reason: Every limit that it breaks, with value and threshold; whether the published split says otherwise.
    """

    status: Literal["ok", "refused", "failed"]
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the variant may ship."""
        return self.status == "ok"


def judge(measurement: Measurement, budget: Budget, *, technique: str = "", is_reference: bool = False) -> Verdict:
    """Judge a variant.

    Args:
        measurement: What was measured.
        budget: The limits.
        technique: How it was trained further; empty if it was only converted.
        is_reference: Whether it is what all others are compared with; it always passes.

    Returns:
        The verdict of the split that chooses. Where the other split would decide otherwise, the reason says so.
    """
    if not measurement.ok or measurement.choose is None:
        return Verdict("failed", measurement.reason or "It was not measured.")
    if is_reference:
        return Verdict("ok")
    cost = _cost(measurement, budget)
    chosen = _quality(measurement.choose, measurement.form, technique, budget)
    reported = (
        chosen if measurement.report is None else _quality(measurement.report, measurement.form, technique, budget)
    )
    sentences = [*chosen, *cost]
    if bool(chosen) != bool(reported):
        if reported:
            sentences.append(f"On the published split it would be refused: {' '.join(reported)}")
        else:
            sentences.append("On the published split its quality would pass.")
    return Verdict("refused" if chosen or cost else "ok", " ".join(sentences))


def _quality(found: Quality, form: str, technique: str, budget: Budget) -> list[str]:
    """A sentence for every limit of quality that is broken."""
    return [
        sentence
        for sentence in (
            _accuracy(found, budget.max_accuracy_drop),
            _worst_class(found, budget.max_worst_class_drop),
            _agreement(found, budget.min_top1_agreement_trained if technique else budget.min_top1_agreement),
            None if technique or form not in _FLOAT_FORMS else _parity(found, budget.max_float_difference),
        )
        if sentence
    ]


def _accuracy(found: Quality, limit: float | None) -> str | None:
    if limit is None or found.ci95_low >= -limit:
        return None
    text = (
        f"Accuracy may have dropped by {-100 * found.ci95_low:.2f} points (measured {100 * found.delta:+.2f}, "
        f"lower end of 95 %, {found.images:,} images), allowed are {100 * limit:.2f}."
    )
    few = " The images are too few to tell; measure on more." if found.delta >= -limit / 2 else ""
    return text + few


def _worst_class(found: Quality, limit: float | None) -> str | None:
    if limit is None or found.worst_class_drop <= limit or found.worst_class_drop * found.worst_class_images < 1.5:
        return None
    return (
        f"Class {found.worst_class} drops by {100 * found.worst_class_drop:.2f} points "
        f"({found.worst_class_images:,} images), allowed are {100 * limit:.2f}."
    )


def _agreement(found: Quality, limit: float | None) -> str | None:
    if limit is None or found.top1_agreement >= limit:
        return None
    share = 100 * found.top1_agreement
    return f"It agrees with the reference on {share:.2f} % of the images, required are {100 * limit:.2f} %."


def _parity(found: Quality, limit: float | None) -> str | None:
    if limit is None or found.max_abs_difference <= limit:
        return None
    return (
        f"A probability differs from the reference by {found.max_abs_difference:.2g}, "
        f"allowed are {limit:.2g} for a form in 32-bit floats."
    )


def _cost(measurement: Measurement, budget: Budget) -> list[str]:
    """A sentence for every limit of size, time and hardware that is broken; the same on both splits."""
    found: list[str] = []
    size, operations, timing = measurement.size, measurement.operations, measurement.timings.get(1)
    mobile = measurement.form.startswith("tflite_")
    if mobile and size is not None:
        if budget.max_bytes is not None and size.bytes > budget.max_bytes:
            found.append(f"It takes {size.bytes:,} bytes, allowed are {budget.max_bytes:,}.")
        if budget.max_gz_bytes is not None and size.gz_bytes > budget.max_gz_bytes:
            found.append(f"It takes {size.gz_bytes:,} bytes after gzip, allowed are {budget.max_gz_bytes:,}.")
    for_gpu = measurement.form in _GPU_FORMS or measurement.form.startswith("tftrt_")
    if budget.min_speedup is not None and timing is not None and not for_gpu and timing.ratio < budget.min_speedup:
        found.append(
            f"It is {timing.ratio:.2f} times as fast as the reference at batch size 1, required are "
            f"{budget.min_speedup:g}."
        )
    if (
        budget.require_gpu_delegate
        and measurement.form in _GPU_FORMS
        and not (operations and operations.gpu_delegate_ok)
    ):
        found.append("TensorFlow Lite's GPU delegate does not take its whole graph, which is required.")
    return found
