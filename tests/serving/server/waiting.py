"""Waiting for what happens in other threads and processes, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def eventually(condition: Callable[[], _T], seconds: float = 60, what: str = "") -> _T:
    """Return the first true value of a condition; fail when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} seconds: {what or condition}; the last value is {value!r}")
        time.sleep(0.01)
