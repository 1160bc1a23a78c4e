"""Names of a source's examples, kept small: a million paths must not become a million Python objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


def printable(ref: str) -> str:
    r"""Return a name that is valid UTF-8 on one line, for messages, reports and examples.

    Bytes of a file name that are not UTF-8 become `\udcxx` escapes, control characters such as a newline
    become `\n` and the like.
    """
    if ref.isascii() and ref.isprintable():
        return ref
    text = ref.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class PathColumn(Sequence[str]):
    """Paths in one block of bytes with offsets; decoded when asked for. Names need not be UTF-8."""

    def __init__(self, paths: Iterable[str]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._block = b"".join(encoded)
        self._ends = np.cumsum([0] + [len(path) for path in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index if index >= 0 else index + len(self)
        if not 0 <= position < len(self):
            raise IndexError(index)
        return os.fsdecode(self._block[self._ends[position] : self._ends[position + 1]])


class NumberColumn(Sequence[str]):
    """Names such as `train/0 … train/59999, test/0 …`, made up when asked for."""

    def __init__(self, parts: Sequence[tuple[str, int]]) -> None:
        self._parts = tuple(parts)
        self._count = sum(count for _, count in self._parts)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index if index >= 0 else index + self._count
        for prefix, count in self._parts:
            if 0 <= position < count:
                return f"{prefix}/{position}"
            position -= count
        raise IndexError(index)
