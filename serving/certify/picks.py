"""Which variant each kind of device gets, and one sentence why.

Comes in: the results table. Goes out: a `Pick` per target. Called by the pipeline's optimizer, which publishes what
was picked, and by the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from serving.certify.table import Row
from serving.errors import ServingError

Target = Literal["mobile_cpu", "mobile_gpu", "mobile_size", "server_cpu", "server_gpu"]
TARGETS: tuple[Target, ...] = get_args(Target)

SERVER_SPEEDUP = 1.2  # What another server runtime must gain at batch size 32 to be worth a second runtime.
# Differences below these are noise of the clock, and a few bytes of names in a file.
_SAME_TIME = 0.05
_SAME_SIZE = 0.005
# From the least to the most changed; where two are as good, the one closer to the trained model is taken.
_CHANGES = (
    "saved_model",
    "float32",
    "fp32",
    "sparse",
    "float16",
    "fp16",
    "bfloat16",
    "dynamic",
    "mixed",
    "int16x8",
    "int8",
)


@dataclass(frozen=True)
class Pick:
    """What a target gets.

    Attributes:
        target: The kind of device.
        variant: The variant it gets.
        reason: One sentence why.
        fallback: Whether no form made for this target passed, so that the float form ships instead.
    """

    target: Target
    variant: str
    reason: str
    fallback: bool = False


def pick(rows: Iterable[Row], reference: str) -> dict[Target, Pick]:
    """Pick a variant for every target.

    Args:
        rows: The results table.
        reference: The variant that all others were compared with: the float SavedModel.

    Returns:
        A pick per target. If nothing made for a target passes, it gets the float form, and the reason says so.

    Raises:
        ServingError: The reference has no row.
    """
    table = list(rows)
    base = next((row for row in table if row.variant == reference), None)
    if base is None:
        raise ServingError(
            f"The reference {reference!r} has no row; expected one of {', '.join(r.variant for r in table)}."
        )
    return {
        "mobile_cpu": _mobile_cpu(table, base),
        "mobile_gpu": _mobile_gpu(table, base),
        "mobile_size": _mobile_size(table, base),
        "server_cpu": _server_cpu(table, base),
        "server_gpu": _server_gpu(table, base),
    }


def listed_only(row: Row) -> str:
    """Why a variant is never picked by itself, however good its figures; empty if it may be picked."""
    if row.form == "tflite_int16x8":
        return "int16x8 has no fast kernels"
    if row.technique == "prune2by4":
        return "2:4 sparsity gains nothing without sparse tensor cores"
    if row.flex_operations:
        return "it needs TensorFlow's Flex delegate"
    return ""


def _mobile_cpu(table: Sequence[Row], base: Row) -> Pick:
    candidates = [row for row in _passed(table, "tflite") if row.cpu_ms_b1_p50 is not None]
    if not candidates:
        return _fallback("mobile_cpu", table, base)
    best = _least(candidates, lambda row: row.cpu_ms_b1_p50 or 0.0, _SAME_TIME)
    speed = "" if best.ratio is None else f", {best.ratio:.1f} times as fast as {base.variant}"
    reason = f"least CPU time of the TFLite files that pass: {best.cpu_ms_b1_p50:.3g} ms per image{speed}."
    return Pick("mobile_cpu", best.variant, reason)


def _mobile_gpu(table: Sequence[Row], base: Row) -> Pick:
    floats = [row for row in _passed(table, "tflite") if row.form in ("tflite_float16", "tflite_float32")]
    candidates = [row for row in floats if row.gpu_delegate_ok and row.bytes is not None]
    if not candidates:
        why = "the GPU delegate takes none of the float files that pass" if floats else ""
        return _fallback("mobile_gpu", table, base, why)
    best = _least(candidates, lambda row: row.bytes or 0, _SAME_SIZE)
    reason = f"smallest float file that the GPU delegate takes as a whole: {_kilobytes(best.bytes)}."
    return Pick("mobile_gpu", best.variant, reason)


def _mobile_size(table: Sequence[Row], base: Row) -> Pick:
    candidates = [row for row in _passed(table, "tflite") if row.gz_bytes is not None]
    if not candidates:
        return _fallback("mobile_size", table, base)
    best = _least(candidates, lambda row: row.gz_bytes or 0, _SAME_SIZE)
    reason = f"smallest download of the TFLite files that pass: {_kilobytes(best.gz_bytes)} after gzip."
    return Pick("mobile_size", best.variant, reason)


def _server_cpu(table: Sequence[Row], base: Row) -> Pick:
    others = _passed(table, "saved_model", "onnxruntime", "openvino")
    candidates = [row for row in others if row.variant != base.variant and row.ratio_b32 is not None]
    if not candidates:
        return Pick("server_cpu", base.variant, "no other form for servers passed with a measured time.")
    best = _least(candidates, lambda row: 1 / max(row.ratio_b32 or 0.0, 1e-9), _SAME_TIME)
    gain = f"{best.variant} is {best.ratio_b32:.2f} times as fast at batch size 32"
    if (best.ratio_b32 or 0.0) < SERVER_SPEEDUP:
        return Pick("server_cpu", base.variant, f"{gain}, less than the {SERVER_SPEEDUP:g} that a change is worth.")
    return Pick("server_cpu", best.variant, f"{gain}, at least the {SERVER_SPEEDUP:g} that a change is worth.")


def _server_gpu(table: Sequence[Row], base: Row) -> Pick:
    engines = [row for row in table if row.runtime == "tftrt"]
    candidates = _passed(table, "tftrt")
    if candidates:
        best = _least(candidates, lambda row: 1 / max(row.ratio_b32 or 0.0, 1e-9), _SAME_TIME)
        speed = "" if best.ratio_b32 is None else f", {best.ratio_b32:.2f} times as fast at batch size 32"
        return Pick("server_gpu", best.variant, f"TensorRT engines that pass{speed}.")
    if not engines:
        return Pick("server_gpu", base.variant, "no form with TensorRT engines was asked for.")
    first = engines[0]
    why = f"{first.status}: {first.reason}" if not first.ok else f"never picked by itself: {listed_only(first)}."
    return Pick("server_gpu", base.variant, f"{first.variant} is {why}")


def _passed(table: Iterable[Row], *runtimes: str) -> list[Row]:
    return [row for row in table if row.ok and row.runtime in runtimes and not listed_only(row)]


def _least(rows: Sequence[Row], cost: Callable[[Row], float], tolerance: float) -> Row:
    """The cheapest row; of those within the tolerance of it, the one that was changed least."""
    limit = min(cost(row) for row in rows) * (1 + tolerance)
    return min((row for row in rows if cost(row) <= limit), key=lambda row: (*_changes(row), cost(row)))


def _changes(row: Row) -> tuple[int, int]:
    kind = row.form if row.form in _CHANGES else row.form.partition("_")[2]
    rank = _CHANGES.index(kind) if kind in _CHANGES else len(_CHANGES)
    return (1 if row.technique else 0), rank


def _fallback(target: Target, table: Sequence[Row], base: Row, why: str = "") -> Pick:
    tried = [row for row in table if row.runtime == "tflite" and not listed_only(row)]
    refused = ", ".join(f"{row.variant} {row.status}" for row in tried if not row.ok)
    cause = why or (f"no TFLite file passes ({refused})" if refused else "no TFLite file was made")
    return Pick(target, base.variant, f"{cause}; the float form {base.variant} ships instead.", fallback=True)


def _kilobytes(count: int | None) -> str:
    return f"{(count or 0) / 1000:,.1f} kB"
