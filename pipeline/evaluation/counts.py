"""Sufficient statistics of a classifier's predictions on one slice.

In come batches of labels and probabilities, out come counts that can be added up. Every metric of
`pipeline.evaluation.metrics` is derived from them, so predictions are looked at once, in batches, and the counts
of two workers merge by addition. Called by the Evaluator's Beam pipeline and by the tests.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

SliceKey = tuple[tuple[str, str], ...]
"""TFMA's slice key: `()` is the whole split, `(("label_name", "7"),)` one slice."""

_FILE_NAME = "counts.npz"

CALIBRATION_BINS = 15
"""Bins of equal width over the confidence, as usual for the expected calibration error."""

SCORE_BINS = 2048
"""Bins over the log-odds of a class score, from which AUC is computed (error below 1e-3 on any data)."""

_LOG_ODDS_LIMIT = 20.0
"""Scores beyond this log-odds (probability 2e-9) share the outermost bins."""

_SMALLEST_PROBABILITY = 1e-15
"""Floor under the logarithm of the log loss; as in scikit-learn, so that one certain mistake isn't infinite."""

_STEP = 2.0**-28
"""Sums of multiples of this are exact in float64 up to 2**25: a million examples at the largest loss there is."""


@dataclass(frozen=True)
class SliceCounts:
    """Counts over N examples and K classes; `a + b` are the counts over both."""

    confusion: np.ndarray
    """int64 [K, K]: rows are true classes, columns predicted ones."""
    top_k_hits: int
    """Examples whose true class is among the k most probable ones."""
    log_loss_sum: float
    """Sum of -ln p(true class), in nats."""
    confidence_sum: np.ndarray
    """float64 [CALIBRATION_BINS]: sum of the top probability, per bin of it."""
    correct: np.ndarray
    """int64 [CALIBRATION_BINS]: right answers, per bin of the top probability."""
    seen: np.ndarray
    """int64 [CALIBRATION_BINS]: examples, per bin of the top probability."""
    positives: np.ndarray
    """int64 [K, SCORE_BINS]: scores of class k on examples of class k."""
    negatives: np.ndarray
    """int64 [K, SCORE_BINS]: scores of class k on examples of the other classes."""

    def __add__(self, other: SliceCounts) -> SliceCounts:
        return SliceCounts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def examples(self) -> int:
        """Number of examples counted."""
        return int(self.confusion.sum())


def count(labels: np.ndarray, probabilities: np.ndarray, top_k: int) -> SliceCounts:
    """Count one batch of predictions.

    Args:
        labels: int [N], the true classes, each within 0 to K - 1.
        probabilities: float [N, K], rows sum to 1.
        top_k: how many of the most probable classes count for the top-k accuracy.

    Returns:
        The counts of the batch.

    Raises:
        ValueError: shapes don't fit, a label is outside the classes, or a probability isn't finite.
    """
    labels = np.asarray(labels).reshape(-1)
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(f"Got {len(labels)} labels and probabilities of shape {probabilities.shape}; expected [N, K].")
    examples, classes = probabilities.shape
    if examples and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(f"Labels range from {labels.min()} to {labels.max()}; the model knows 0 to {classes - 1}.")
    if not np.isfinite(probabilities).all():
        raise ValueError("The model's probabilities hold NaN or infinity; they must be finite.")
    rows = np.arange(examples)
    predicted = probabilities.argmax(axis=1) if examples else np.zeros(0, int)
    true_scores = probabilities[rows, labels].astype(np.float64)
    rank = (probabilities > true_scores[:, None].astype(probabilities.dtype)).sum(axis=1)
    confidence = probabilities.max(axis=1).astype(np.float64) if examples else np.zeros(0)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    positives, negatives = _score_histograms(labels, probabilities)
    return SliceCounts(
        confusion=np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes),
        top_k_hits=int((rank < top_k).sum()),
        log_loss_sum=float(_in_steps(-np.log(np.maximum(true_scores, _SMALLEST_PROBABILITY))).sum()),
        confidence_sum=np.bincount(bins, _in_steps(confidence), CALIBRATION_BINS),
        correct=np.bincount(bins[predicted == labels], minlength=CALIBRATION_BINS),
        seen=np.bincount(bins, minlength=CALIBRATION_BINS),
        positives=positives,
        negatives=negatives,
    )


def _in_steps(values: np.ndarray) -> np.ndarray:
    """Return float64 values rounded to multiples of `_STEP`, whose sums are exact and so know no order."""
    return np.round(values / _STEP) * _STEP


def sum_counts(parts: Iterable[SliceCounts]) -> SliceCounts:
    """Return the sum of counts; the same to the last bit in whichever order workers deliver them."""
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total = total + part
    return total


def _score_histograms(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return histograms [K, SCORE_BINS] of each class's score, on its own examples and on the others."""
    classes = probabilities.shape[1]
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    log_odds = np.clip(np.log(p) - np.log1p(-p), -_LOG_ODDS_LIMIT, _LOG_ODDS_LIMIT)
    bins = ((log_odds + _LOG_ODDS_LIMIT) * ((SCORE_BINS - 1) / (2 * _LOG_ODDS_LIMIT))).round().astype(np.int64)
    flat = bins + np.arange(classes) * SCORE_BINS
    shape = (classes, SCORE_BINS)
    own = np.zeros(probabilities.shape, bool)
    own[np.arange(len(labels)), labels] = True
    size = classes * SCORE_BINS
    return (
        np.bincount(flat[own], minlength=size).reshape(shape),
        np.bincount(flat[~own], minlength=size).reshape(shape),
    )


def save_counts(counts: Iterable[tuple[tuple[str, SliceKey], SliceCounts]], folder: str) -> None:
    """Write counts by model and slice into a folder, so that any later metric needs no second prediction."""
    import tensorflow as tf

    items = sorted(counts, key=lambda item: item[0])
    arrays = {f"{i}.{f.name}": getattr(value, f.name) for i, (_, value) in enumerate(items) for f in fields(value)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, keys=np.array(json.dumps([key for key, _ in items])), **arrays)
    with tf.io.gfile.GFile(os.path.join(folder, _FILE_NAME), "wb") as file:
        file.write(buffer.getvalue())


def load_counts(folder: str) -> dict[tuple[str, SliceKey], SliceCounts]:
    """Return what `save_counts` wrote: counts by model name and slice."""
    import tensorflow as tf

    with tf.io.gfile.GFile(os.path.join(folder, _FILE_NAME), "rb") as file:
        arrays = np.load(io.BytesIO(file.read()), allow_pickle=False)
    result = {}
    for index, (model, slice_key) in enumerate(json.loads(str(arrays["keys"]))):
        values = {f.name: arrays[f"{index}.{f.name}"] for f in fields(SliceCounts)}
        scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
        key = (model, tuple((name, value) for name, value in slice_key))
        result[key] = SliceCounts(**{**values, **scalars})
    return result
