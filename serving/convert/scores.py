"""Whether a classifier gives probabilities or logits, found out by running it.

Comes in: the scores of a few probe images. Goes out: `probabilities` or `logits`, with the evidence in words.
Called where a model that was made elsewhere is converted or loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from serving.errors import ConversionError

Kind = Literal["probabilities", "logits"]
PROBES = 8
_TOLERANCE = 1e-3
_SEED = 20


@dataclass(frozen=True)
class Scores:
    """What a model's scores are.

    Attributes:
        kind: `probabilities`, or `logits`, which a softmax turns into probabilities.
        evidence: What was seen, in words.
    """

    kind: Kind
    evidence: str


def probe_images(shape: tuple[int, int, int], count: int = PROBES) -> np.ndarray:
    """Build images that differ much: black, white, and seeded noise of several strengths.

    Args:
        shape: Height, width, channels.
        count: How many, at least 3.

    Returns:
        uint8 [count, H, W, C].
    """
    rng = np.random.default_rng(_SEED)
    noise = [np.clip(rng.normal(rng.uniform(40, 215), rng.uniform(10, 80), shape), 0, 255) for _ in range(count - 2)]
    return np.stack([np.zeros(shape), np.full(shape, 255.0), *noise]).round().astype(np.uint8)


def kind_of(scores: np.ndarray, what: str, step: float = 0.0) -> Scores:
    """Tell probabilities from logits.

    Rows without a negative value that each sum to 1, for every one of several different images, are
    probabilities: logits are free to be anything and do that for none. Rows that all lie in [0, 1], but do not
    sum to 1, belong to independent classes or to a scaled softmax, and neither a softmax nor leaving them alone
    would be right.

    Args:
        scores: float [N, K] of several different images.
        what: Name of the model, for messages.
        step: Quantization step of the scores; 0 for floats.

    Returns:
        Kind and evidence.

    Raises:
        ConversionError: Not [N, K] with K of 2 or more, not finite, or neither of both.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ConversionError(
            f"{what} gives scores of shape {list(scores.shape)}; expected [N, K] with K of 2 or more classes. A "
            "single score for two classes has to become two scores in the model."
        )
    if not np.isfinite(scores).all():
        raise ConversionError(f"{what} gives NaN or infinity for ordinary images; mend the model before converting.")
    sums = scores.sum(axis=1, dtype=np.float64)
    tolerance = _TOLERANCE + step * scores.shape[1]
    span = f"{len(scores)} probe images have scores from {scores.min():.4g} to {scores.max():.4g}"
    span += f", whose rows sum to between {sums.min():.4g} and {sums.max():.4g}"
    if scores.min() >= -tolerance and np.abs(sums - 1).max() <= tolerance:
        return Scores("probabilities", span)
    if scores.min() >= 0 and scores.max() <= 1 + tolerance:
        raise ConversionError(
            f"{what} gives neither logits nor probabilities: {span}. Expected one label an image: logits, or a "
            "softmax over the classes; say which with the option `scores` if it is one of them."
        )
    return Scores("logits", span)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits [N, K] into probabilities, float32 [N, K]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
