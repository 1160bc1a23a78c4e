"""Rows of several requests, put together and taken apart again.

Comes in: the inputs of the requests of a batch, then the outputs of the whole. Goes out: the inputs of the whole, then
the outputs of each request. Pure functions, called by `serving.server.batching`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.server.status import Code, StatusError


def rows_of(inputs: Mapping[str, np.ndarray]) -> int:
    """Return the size of the first dimension that all inputs share; -1 if they share none."""
    rows = -1
    for array in inputs.values():
        shape = array.shape
        if not shape or rows not in (-1, shape[0]):
            return -1
        rows = shape[0]
    return rows


def merge(
    requests: Sequence[Mapping[str, np.ndarray]], rows: int, allowed: Sequence[int] = ()
) -> tuple[dict[str, np.ndarray], int]:
    """Concatenate the inputs of requests.

    Args:
        requests: Inputs of each request by name; same names, dtypes and ranks. Where other dimensions than the first
            differ, the smaller arrays are padded at their end with their own first element.
        rows: Rows of all requests.
        allowed: Sizes that a batch may have, ascending; empty for any.

    Returns:
        The inputs of the batch, and its rows: the smallest allowed size that is large enough, filled up with copies
        of the first row of the last request. A batch larger than all allowed sizes stays as it is.

    Raises:
        StatusError: INVALID_ARGUMENT, an array without elements would have to be padded.
    """
    size = next((size for size in allowed if size >= rows), rows)
    merged = {}
    for name in requests[0]:
        arrays = _same_shape([request[name] for request in requests])
        if size > rows:
            arrays = [*arrays, *[arrays[-1][:1]] * (size - rows)]
        merged[name] = np.concatenate(arrays)
    return merged, size


def split(outputs: Mapping[str, np.ndarray], counts: Sequence[int], rows: int) -> list[dict[str, np.ndarray]] | None:
    """Give each request its rows of the outputs.

    Args:
        outputs: Outputs of the batch by name.
        counts: Rows of each request, in the order in which they were merged.
        rows: Rows of the batch, padding included.

    Returns:
        Outputs of each request, views of those of the batch; None if an output does not have a row for each row of
        the batch.
    """
    if any(not array.shape or array.shape[0] != rows for array in outputs.values()):
        return None
    parts = []
    begin = 0
    for count in counts:
        end = begin + count
        parts.append({name: array[begin:end] for name, array in outputs.items()})
        begin = end
    return parts


def _same_shape(arrays: list[np.ndarray]) -> list[np.ndarray]:
    first = arrays[0].shape[1:]
    if all(array.shape[1:] == first for array in arrays):
        return arrays
    sizes = tuple(map(max, zip(*[array.shape[1:] for array in arrays], strict=True)))
    return [_padded(array, sizes) for array in arrays]


def _padded(array: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    if array.shape[1:] == sizes:
        return array
    if not array.size:
        raise StatusError(Code.INVALID_ARGUMENT, "Got empty tensor in batch of non-empty tensors.")
    whole = np.full((len(array), *sizes), array.flat[0], array.dtype)
    whole[tuple(slice(size) for size in array.shape)] = array
    return whole
