"""Metrics of a classifier, derived from the counts of one slice.

In come `SliceCounts`, out come plain numbers by name (`overall_metrics`), by class (`per_class_metrics`) and
TFMA's plot messages. `pipeline.evaluation.tfma_output` writes them in TFMA's format.
"""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.counts import CALIBRATION_BINS, SliceCounts

HIGHER_IS_BETTER = {
    "accuracy": True,
    "top_k_accuracy": True,
    "auc": True,
    "macro_f1": True,
    "log_loss": False,
    "calibration_error": False,
}
"""Metrics that gates may name, and whether more of them is better."""


def overall_metrics(counts: SliceCounts) -> dict[str, float]:
    """Return the metrics of a whole slice by name; `nan` where a slice has nothing to tell.

    `auc` is the mean over classes of the one-against-the-rest area under the ROC curve (Hand and Till 2001 call
    the pairwise form M); `calibration_error` the expected calibration error over equal-width bins (Guo et al.
    2017); `log_loss` is in nats; `macro_f1` the mean of the per-class F1 over classes that occur.
    """
    n = counts.examples
    classes = per_class_metrics(counts)
    occurring = counts.confusion.sum(axis=1) > 0
    gap = np.abs(counts.confidence_sum - counts.correct).sum()
    return {
        "example_count": float(n),
        "accuracy": _ratio(np.trace(counts.confusion), n),
        "top_k_accuracy": _ratio(counts.top_k_hits, n),
        "log_loss": _ratio(counts.log_loss_sum, n),
        "calibration_error": _ratio(gap, n),
        "macro_f1": _mean(classes["f1"][occurring]),
        "auc": _mean(classes["auc"]),
    }


def per_class_metrics(counts: SliceCounts) -> dict[str, np.ndarray]:
    """Return precision, recall, F1 and AUC of every class, float64 [K] each.

    Precision of a class that was never predicted, and recall of one that never occurs, are 0 as in TFMA and
    scikit-learn; the AUC of a class that fills the slice or is absent from it is `nan`.
    """
    hits = np.diag(counts.confusion).astype(float)
    predicted, actual = counts.confusion.sum(axis=0), counts.confusion.sum(axis=1)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    recall = np.divide(hits, actual, out=np.zeros_like(hits), where=actual > 0)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(hits), where=total > 0)
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auc": _auc(counts.positives, counts.negatives),
    }


def reliability(counts: SliceCounts) -> list[tuple[float, float, int]]:
    """Return (mean confidence, accuracy, examples) of each bin of the confidence that holds examples."""
    return [
        (
            float(counts.confidence_sum[b] / counts.seen[b]),
            float(counts.correct[b] / counts.seen[b]),
            int(counts.seen[b]),
        )
        for b in range(CALIBRATION_BINS)
        if counts.seen[b]
    ]


def _auc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve per class: the share of pairs ranked rightly, ties counting half."""
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + 0.5 * negatives)).sum(axis=1)
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator) / denominator if denominator else float("nan")


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
