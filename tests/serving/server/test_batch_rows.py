"""Rows put together and taken apart: nothing lost, nothing mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.batch_rows import merge, rows_of, split
from serving.server.status import Code, StatusError


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        ([(3, 2)], 3),
        ([(3, 2), (3,)], 3),
        ([(0, 4)], 0),
        ([()], -1),
        ([(3, 2), ()], -1),
        ([(3, 2), (1, 2)], -1),
        ([], -1),
    ],
)
def test_rows_of(shapes: list[tuple[int, ...]], rows: int) -> None:
    assert rows_of({str(n): np.zeros(shape) for n, shape in enumerate(shapes)}) == rows


@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    allowed=st.sampled_from([(), (4, 8, 16, 40), (1, 2, 3)]),
    strings=st.booleans(),
)
def test_each_request_gets_back_its_own_rows(counts: list[int], allowed: tuple[int, ...], strings: bool) -> None:
    ids = iter(range(1000))
    requests = []
    for count in counts:
        numbers = [next(ids) for _ in range(count)]
        values = np.array([str(n).encode() for n in numbers], dtype=object) if strings else np.array(numbers)
        requests.append({"a": values, "b": np.array([[n, -n] for n in numbers], np.float32)})
    merged, size = merge(requests, sum(counts), allowed)
    assert size >= sum(counts)
    assert size == sum(counts) or size in allowed
    assert all(len(array) == size for array in merged.values())
    parts = split(merged, counts, size)
    assert parts is not None
    for part, request in zip(parts, requests, strict=True):
        for name in ("a", "b"):
            assert part[name].dtype == request[name].dtype
            np.testing.assert_array_equal(part[name], request[name])


def test_padding_repeats_a_valid_row() -> None:
    merged, size = merge([{"x": np.array([[1.0], [2.0]])}, {"x": np.array([[3.0], [4.0]])}], 4, (2, 8))
    assert size == 8
    assert merged["x"].ravel().tolist() == [1, 2, 3, 4, 3, 3, 3, 3]


@given(
    shapes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4),
    strings=st.booleans(),
)
def test_shorter_inputs_are_filled_up_with_their_first_element(
    shapes: list[tuple[int, int, int]], strings: bool
) -> None:
    dtype = object if strings else np.int64
    arrays = [np.arange(np.prod(shape)).reshape(shape) + 100 * n for n, shape in enumerate(shapes)]
    arrays = [array.astype(str).astype(dtype) if strings else array for array in arrays]
    merged, _ = merge([{"x": array} for array in arrays], sum(len(array) for array in arrays))
    whole = merged["x"]
    assert whole.shape[1:] == tuple(max(array.shape[axis] for array in arrays) for axis in (1, 2))
    begin = 0
    for array in arrays:
        rows = whole[begin : begin + len(array)]
        begin += len(array)
        np.testing.assert_array_equal(rows[:, : array.shape[1], : array.shape[2]], array)
        mask = np.ones(rows.shape, bool)
        mask[:, : array.shape[1], : array.shape[2]] = False
        assert (rows[mask] == array.flat[0]).all()


def test_an_empty_input_cannot_be_filled_up() -> None:
    with pytest.raises(StatusError, match="Got empty tensor in batch of non-empty tensors") as caught:
        merge([{"x": np.zeros((1, 0))}, {"x": np.zeros((1, 2))}], 2)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("array", [np.float32(1), np.zeros(2), np.zeros((4, 3))])
def test_outputs_without_a_row_for_each_row(array: np.ndarray) -> None:
    assert split({"good": np.zeros(3), "y": np.asarray(array)}, [1, 2], 3) is None
