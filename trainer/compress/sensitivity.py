"""Which layer bears how much pruning: the accuracy at several sparsities of each kernel, and a choice from it.

Called by `pruneauto`. The scan prunes one kernel at a time without training, which is pessimistic about each
layer but ranks them well (Li et al., 2017, arXiv:1608.08710).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras

from trainer import inputs
from trainer.compress import network
from trainer.compress.scoring import Score, Scorer
from trainer.errors import TrainerError
from transform import progress

LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
# Examples of the eval split that a scan looks at; about one percentage point of standard error.
EXAMPLES = 2_048
# The same levels in all layers come to a sum that may lie some bits below the level.
_ROUNDING = 1e-9

Scan = Mapping[str, Mapping[float, Score]]


def scan(
    model: tf_keras.Model, names: Sequence[str], evaluation: inputs.Split, levels: Sequence[float] = LEVELS
) -> dict[str, dict[float, Score]]:
    """Measure each layer at each sparsity, all others dense.

    Args:
        model: the float model; has its own weights again at the end.
        names: layers with a kernel.
        evaluation: the split to measure on.
        levels: shares of zeros.

    Returns:
        For each layer the score by sparsity, that of the dense model at 0.
    """
    scorer = Scorer(model, evaluation, EXAMPLES)
    dense = scorer()
    found: dict[str, dict[float, Score]] = {}
    for number, name in enumerate(names):
        variable = network.kernel(model.get_layer(name))
        weights = variable.numpy()
        found[name] = {0.0: dense}
        for level in levels:
            variable.assign(thinned(weights, level))
            found[name][level] = scorer()
        variable.assign(weights)
        progress.report(number + 1, len(names), "layers", stage="sensitivity scan")
    return found


def thinned(weights: np.ndarray, sparsity: float) -> np.ndarray:
    """Return the weights with the given share of smallest magnitudes set to zero."""
    zeros = round(sparsity * weights.size)
    flat = weights.flatten()
    flat[np.argsort(np.abs(flat), kind="stable")[:zeros]] = 0.0
    return flat.reshape(weights.shape)


def choose(found: Scan, sizes: Mapping[str, int], target: float) -> dict[str, float]:
    """Choose a sparsity for each layer that loses as little as possible.

    Every layer gets the highest level whose loss lies within one common bound, and the bound is the lowest
    with which the target is reached over all layers together.

    Args:
        found: the result of `scan`.
        sizes: number of weights of each layer's kernel.
        target: share of zeros wanted over all these kernels.

    Returns:
        Sparsity by layer.

    Raises:
        TrainerError: if even the highest levels do not reach the target.
    """
    # A level counts as no better than any lower one: a dip in the curve is chance.
    curves = {
        name: dict(
            zip(sorted(curve), np.maximum.accumulate([curve[level].loss for level in sorted(curve)]), strict=True)
        )
        for name, curve in found.items()
    }
    for bound in sorted({loss for curve in curves.values() for loss in curve.values()}):
        chosen = {
            name: max((level for level, loss in curve.items() if loss <= bound), default=0.0)
            for name, curve in curves.items()
        }
        if overall(chosen, sizes) >= target - _ROUNDING:
            return _lowered(chosen, sizes, target)
    reached = overall({name: max(curve) for name, curve in found.items()}, sizes)
    raise TrainerError(
        f"sparsity {target:g} is out of reach: the highest levels of the scan come to {reached:.2f}; set "
        "compress.finetune.sparsity lower"
    )


def overall(sparsities: Mapping[str, float], sizes: Mapping[str, int]) -> float:
    """Return the share of zeros over all kernels."""
    return sum(sparsities[name] * sizes[name] for name in sparsities) / sum(sizes[name] for name in sparsities)


def _lowered(chosen: dict[str, float], sizes: Mapping[str, int], target: float) -> dict[str, float]:
    """Return the choice scaled down to the target: levels are coarse, and more than wanted costs accuracy."""
    factor = target / overall(chosen, sizes)
    return {name: round(level * factor, 4) for name, level in chosen.items()}
