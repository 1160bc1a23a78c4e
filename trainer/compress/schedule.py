"""When to prune: the number of steps of a fine-tuning in, the steps at which masks are updated out.

Pruning must end early enough for the rest of the weights to recover, and needs a few hundred steps in all: 93
steps cost a network 12 points of accuracy where 374 steps cost 2. Called by `pruning`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Fewer steps than this and the remaining weights cannot make up for the lost ones.
STEPS_WANTED = 300
BEGIN_SHARE = 0.02
END_SHARE = 0.55
MASK_UPDATES = 25


@dataclass(frozen=True)
class PruningPlan:
    """The course of a pruning; steps count from 1.

    Attributes:
        epochs: epochs to train.
        steps: all steps.
        begin_step: the first update of the masks.
        end_step: the last one, at which the final sparsity is reached.
        frequency: steps from one update to the next; divides the way from the first to the last.
        raised_from: epochs that were asked for, if they were too few; else None.
    """

    epochs: int
    steps: int
    begin_step: int
    end_step: int
    frequency: int
    raised_from: int | None


def plan(epochs: int, steps_per_epoch: int) -> PruningPlan:
    """Return the plan of a pruning.

    Args:
        epochs: epochs asked for; more are taken if they come to fewer than `STEPS_WANTED` steps.
        steps_per_epoch: optimizer steps in one epoch, at least 1.

    Returns:
        A plan whose last update lies before 60 % of the steps (Zhu and Gupta, 2017, arXiv:1710.01878, stop
        early too).
    """
    needed = math.ceil(STEPS_WANTED / steps_per_epoch)
    taken = max(epochs, needed)
    steps = taken * steps_per_epoch
    begin = max(1, round(BEGIN_SHARE * steps))
    last = int(END_SHARE * steps)
    frequency = max(1, (last - begin) // MASK_UPDATES)
    end = begin + (last - begin) // frequency * frequency
    return PruningPlan(taken, steps, begin, end, frequency, epochs if taken > epochs else None)
