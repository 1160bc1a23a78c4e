"""How good a model is beside its reference: one argmax evaluator for all forms.

Comes in: a loaded model, labeled images, the probabilities of the reference. Goes out: a `Quality`. Called by
`serving.measure.worker`. No metric of a framework takes part: the same few lines of numpy score every form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serving.errors import ServingError
from serving.forms.base import LoadedForm, pixels_for
from serving.measure.images import ImageBatches

_Z95 = 1.959963984540054  # Normal quantile of a two-sided interval of 95 %.
_SMALLEST = 1e-7  # Floor of a probability in the log loss: a quantized 0 must not make it infinite.


@dataclass(frozen=True)
class Quality:
    """A candidate beside the reference on one set of images; shares are in [0, 1].

    Attributes:
        images: Number of images.
        classes: Number of classes K.
        accuracy: Share of images whose most probable class is the label.
        reference_accuracy: The same of the reference.
        delta: `accuracy - reference_accuracy`.
        ci95_low: Lower end of the paired 95 % interval of `delta`.
        ci95_high: Upper end.
        worst_class: The label that loses most; the first of equals.
        worst_class_drop: Loss of accuracy on the images of that label; negative if even that one gains.
        worst_class_images: How many images have that label.
        top1_agreement: Share of images for which both choose the same class.
        max_abs_difference: Largest difference of two probabilities.
        log_loss: Mean of -log(probability of the label), in nats.
        reference_log_loss: The same of the reference.
    """

    images: int
    classes: int
    accuracy: float
    reference_accuracy: float
    delta: float
    ci95_low: float
    ci95_high: float
    worst_class: int
    worst_class_drop: float
    worst_class_images: int
    top1_agreement: float
    max_abs_difference: float
    log_loss: float
    reference_log_loss: float


def predict_all(
    model: LoadedForm, images: ImageBatches, on_progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Run a model over a whole set.

    Args:
        model: The loaded model.
        images: The set; its batches go to the model as they are.
        on_progress: Called with (images done, images in all) after every batch.

    Returns:
        Probabilities, float32 [N, K], in the order of the set.

    Raises:
        ServingError: The set is empty, or an answer has the wrong shape or holds a value that is not finite.
    """
    parts: list[np.ndarray] = []
    done = 0
    for pixels, _ in images.read():
        answer = np.asarray(model.predict(pixels_for(model, pixels)))
        classes = parts[0].shape[1] if parts else None
        if answer.ndim != 2 or len(answer) != len(pixels) or answer.shape[1] != (classes or answer.shape[1]):
            expected = f"[{len(pixels)}, {classes or 'K'}]"
            raise ServingError(f"The model answers with the shape {list(answer.shape)}, expected {expected}.")
        bad = np.flatnonzero(~np.isfinite(answer).all(axis=1))
        if len(bad):
            raise ServingError(
                f"Image {done + int(bad[0])}: the model answers {_short(answer[bad[0]])}, expected finite "
                "probabilities. The conversion broke the model; a range that overflows in the smaller type does that."
            )
        # A copy, because a runtime may reuse its buffer.
        parts.append(np.array(answer, np.float32))
        done += len(pixels)
        if on_progress is not None:
            on_progress(done, images.size)
    if not done:
        raise ServingError("The set of images to measure on is empty; expected one image or more.")
    return np.concatenate(parts)


def labels_of(images: ImageBatches) -> np.ndarray:
    """The labels of a set, int64 [N], in its order."""
    return np.concatenate([np.zeros(0, np.int64), *(labels for _, labels in images.read())])


def quality(labels: np.ndarray, candidate: np.ndarray, reference: np.ndarray) -> Quality:
    """Compare a candidate with the reference, image by image.

    Args:
        labels: Integers [N], each in 0..K-1.
        candidate: Probabilities [N, K].
        reference: Probabilities [N, K] of the reference on the same images.

    Returns:
        The comparison; the interval of a candidate that gives the very same numbers is 0 to 0, so
        `quality(labels, reference, reference)` describes the reference itself.

    Raises:
        ServingError: No images, another number of images or classes, a label outside the classes, or a value that
            is not finite.
    """
    _check(labels, candidate, reference)
    chosen, expected = candidate.argmax(axis=1), reference.argmax(axis=1)
    right, reference_right = chosen == labels, expected == labels
    low, high = paired_interval(
        both=int((right & reference_right).sum()),
        only_first=int((right & ~reference_right).sum()),
        only_second=int((~right & reference_right).sum()),
        neither=int((~right & ~reference_right).sum()),
    )
    same = np.array_equal(candidate, reference)
    worst, drop, count = _worst_class(labels, right, reference_right)
    return Quality(
        images=len(labels),
        classes=candidate.shape[1],
        accuracy=float(right.mean()),
        reference_accuracy=float(reference_right.mean()),
        delta=(int(right.sum()) - int(reference_right.sum())) / len(labels),
        ci95_low=0.0 if same else low,
        ci95_high=0.0 if same else high,
        worst_class=worst,
        worst_class_drop=drop,
        worst_class_images=count,
        top1_agreement=float((chosen == expected).mean()),
        max_abs_difference=float(np.abs(candidate.astype(np.float64) - reference).max()),
        log_loss=_log_loss(labels, candidate),
        reference_log_loss=_log_loss(labels, reference),
    )


def paired_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """95 % interval of the difference of two accuracies that were measured on the same images.

    Method 10 of R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions
    based on paired data", Statistics in Medicine 17 (1998), 2635-2650: Wilson's score intervals of both accuracies,
    squared and added with the correlation of the pairs. It needs no random numbers, never leaves [-1, 1] and has a
    width even if no image tells the two apart.

    Args:
        both: Number of images that both get right.
        only_first: Images that only the first gets right.
        only_second: Images that only the second gets right.
        neither: Images that both get wrong.

    Returns:
        Lower and upper end of accuracy(first) - accuracy(second).

    Raises:
        ServingError: A number is negative, or all are 0.
    """
    counts = (both, only_first, only_second, neither)
    total = sum(counts)
    if min(counts) < 0 or not total:
        raise ServingError(f"Received the counts {counts} of right answers; expected at least one image, none below 0.")
    first, second = (both + only_first) / total, (both + only_second) / total
    first_low, first_high = wilson_interval(both + only_first, total)
    second_low, second_high = wilson_interval(both + only_second, total)
    phi = _correlation(both, only_first, only_second, neither)

    def reach(left: float, right: float) -> float:
        return math.sqrt(max(0.0, left * left - 2 * phi * left * right + right * right))

    difference = (only_first - only_second) / total
    low = difference - reach(first - first_low, second_high - second)
    high = difference + reach(first_high - first, second - second_low)
    return max(-1.0, low), min(1.0, high)


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % interval of a share by the score method of E. B. Wilson (1927), which holds near 0 and 1 too.

    Args:
        right: Number of successes.
        total: Number of trials, 1 or more.
    """
    share, square = right / total, _Z95 * _Z95
    center = (share + square / (2 * total)) / (1 + square / total)
    half = _Z95 / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    # The ends are exact at 0 and 1, where rounding would put them a hair outside.
    return (0.0 if right == 0 else center - half), (1.0 if right == total else center + half)


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Newcombe's phi with continuity correction."""
    product = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not product:
        return 0.0
    surplus: float = both * neither - only_first * only_second
    if surplus > 0:
        surplus = max(0.0, surplus - (both + only_first + only_second + neither) / 2)
    return surplus / math.sqrt(product)


def _worst_class(labels: np.ndarray, right: np.ndarray, reference_right: np.ndarray) -> tuple[int, float, int]:
    count = np.bincount(labels)
    lost = np.bincount(labels, weights=reference_right.astype(np.int64) - right.astype(np.int64))
    drops = np.full(len(count), -np.inf)
    np.divide(lost, count, out=drops, where=count > 0)
    worst = int(drops.argmax())
    return worst, float(drops[worst]), int(count[worst])


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(of_label, _SMALLEST, 1.0)).mean())


def _check(labels: np.ndarray, candidate: np.ndarray, reference: np.ndarray) -> None:
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ServingError(
            f"Labels are {labels.dtype} {list(labels.shape)}, expected integers [N] with N of 1 or more."
        )
    for name, values in (("candidate", candidate), ("reference", reference)):
        if values.ndim != 2 or len(values) != len(labels):
            raise ServingError(f"The {name} gives {list(values.shape)} probabilities, expected [{len(labels)}, K].")
        if not np.isfinite(values).all():
            raise ServingError(f"The {name} gives probabilities that are not finite; expected numbers in [0, 1].")
    if candidate.shape[1] != reference.shape[1]:
        raise ServingError(f"The candidate has {candidate.shape[1]} classes, the reference {reference.shape[1]}.")
    if labels.min() < 0 or labels.max() >= candidate.shape[1]:
        raise ServingError(
            f"Labels run from {labels.min()} to {labels.max()}, but the model has {candidate.shape[1]} classes. "
            "Measure on images of the model's own classes."
        )


def _short(values: np.ndarray) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:4])
    return f"[{shown}{', ...' if len(values) > 4 else ''}]"
