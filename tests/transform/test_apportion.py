from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform.apportion import apportion


def one(total: int, weights: list[int], minimum: list[int]) -> list[int]:
    return apportion(np.array([total]), np.array([weights]), np.array([minimum]))[0].tolist()


@pytest.mark.parametrize(
    ("total", "weights", "minimum", "expected"),
    [
        (100, [8, 1, 1], [1, 1, 1], [80, 10, 10]),
        (3, [8, 1, 1], [1, 1, 1], [1, 1, 1]),
        (5, [8, 1, 1], [0, 0, 0], [4, 1, 0]),
        (0, [8, 1, 1], [0, 0, 0], [0, 0, 0]),
        (7, [1, 0, 0], [0, 0, 0], [7, 0, 0]),
    ],
)
def test_known_divisions(total: int, weights: list[int], minimum: list[int], expected: list[int]) -> None:
    assert one(total, weights, minimum) == expected


@given(total=st.integers(3, 10**6), weights=st.lists(st.integers(1, 10**9), min_size=3, max_size=3))
def test_rows_sum_up_and_stay_within_one_of_the_exact_share(total: int, weights: list[int]) -> None:
    quota = one(total, weights, [0, 0, 0])
    assert sum(quota) == total
    assert all(abs(part - total * w / sum(weights)) < 1 + 1e-6 for part, w in zip(quota, weights, strict=True))


@given(total=st.integers(3, 50), weights=st.lists(st.integers(1, 100), min_size=3, max_size=3))
def test_minimum_is_kept(total: int, weights: list[int]) -> None:
    quota = one(total, weights, [1, 1, 1])
    assert sum(quota) == total
    assert min(quota) >= 1
