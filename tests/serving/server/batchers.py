"""Requests to a batcher, for tests."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np

from serving.server.batching import Batcher
from tests.serving.server.engines import FakeHandle


def x(*values: float, width: int = 1) -> dict[str, np.ndarray]:
    """Inputs with a row for each value."""
    return {"x": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


def result(future: concurrent.futures.Future[Any]) -> list[float]:
    """First column of the answer of a submitted request."""
    return list(future.result(60)["y"][:, 0])


def occupy(one: Batcher, handle: FakeHandle) -> concurrent.futures.Future[Any]:
    """Submit a request and wait until it runs."""
    handle.servable.running.clear()
    future = one.submit(handle, "serving_default", x(1000))
    assert handle.servable.running.wait(60)
    return future
