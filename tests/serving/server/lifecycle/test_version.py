"""References to a loaded version."""

from __future__ import annotations

import threading

import pytest

from serving.server.lifecycle.version import LoadedVersion
from tests.serving.server.lifecycle.fakes import FakeServable


def test_a_version_is_closed_when_the_last_reference_is_back() -> None:
    loaded = LoadedVersion("m", 3, FakeServable(3))
    first, second = loaded.acquire(), loaded.acquire()
    assert first is not None and second is not None
    assert (first.name, first.version, first.servable) == ("m", 3, loaded.servable)
    idle: list[bool] = []
    loaded.retire(lambda: idle.append(True))
    assert loaded.acquire() is None
    first.release()
    assert not idle
    with second:
        pass
    assert idle == [True]


def test_an_unused_version_is_idle_at_once() -> None:
    idle: list[bool] = []
    loaded = LoadedVersion("m", 1, FakeServable(1))
    loaded.retire(lambda: idle.append(True))
    assert idle == [True]
    with pytest.raises(RuntimeError, match="retired already"):
        loaded.retire(lambda: None)


def test_a_handle_is_released_once() -> None:
    handle = LoadedVersion("m", 1, FakeServable(1)).acquire()
    assert handle is not None
    handle.release()
    with pytest.raises(RuntimeError, match="version 1 of m was released twice"):
        handle.release()


def test_many_threads() -> None:
    loaded = LoadedVersion("m", 1, FakeServable(1))
    closed = threading.Event()
    started = threading.Barrier(9)
    late: list[int] = []

    def use() -> None:
        started.wait()
        while (handle := loaded.acquire()) is not None:
            if closed.is_set():
                late.append(1)
            handle.release()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    started.wait()
    loaded.retire(closed.set)
    for thread in threads:
        thread.join()
    assert closed.wait(10) and not late
