"""Shares into whole numbers, for many rows at once.

`transform.splits` asks how many examples of each class go to each split, and how many of each class a limit
leaves.
"""

from __future__ import annotations

import numpy as np


def apportion(totals: np.ndarray, weights: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    """Divide totals in proportion to weights by the method of the largest remainder.

    Ties go to the earlier column. A column below its minimum is raised to it, at the cost of the columns that
    have most above theirs.

    Args:
        totals: int64 [R], what is to be divided, row by row.
        weights: int64 [R, C], not negative.
        minimum: int64 [R, C]; each row must sum to no more than its total.

    Returns:
        int64 [R, C]; every row sums to its total.
    """
    whole = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    exact = totals[:, None] * weights
    quota, remainder = exact // whole, exact % whole
    rest = np.where(weights.any(axis=1), totals - quota.sum(axis=1), 0)
    rank = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1, kind="stable")
    quota += rank < rest[:, None]

    raised = np.maximum(quota, minimum)
    owed = raised.sum(axis=1) - quota.sum(axis=1)
    while owed.any():
        rows = np.flatnonzero(owed)
        columns = np.argmax((raised - minimum)[rows], axis=1)
        raised[rows, columns] -= 1
        owed[rows] -= 1
    return raised
