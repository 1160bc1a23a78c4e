"""Batchers, and real model servers: embedded ones from a fork server, or a `tensorflow_model_server`.

`SLIPWAY_TEST_ENGINE` names the engine: `embedded` (default), or the path of a tensorflow_model_server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.server.batching import Batcher, BatchingOptions
from tests.serving.server.processes import Launch, ServerProcesses


@pytest.fixture(scope="session")
def server_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcesses]:
    """Starts model servers; one fork server a session."""
    with ServerProcesses(tmp_path_factory.mktemp("fork-server")) as processes:
        yield processes


@pytest.fixture()
def model_server(server_processes: ServerProcesses, tmp_path: Path) -> Iterator[Launch]:
    """Starts a model server with flags and waits until it listens: `model_server(argv) -> RunningServer`.

    Ports are chosen unless given. Servers that a test leaves behind are killed.
    """
    launch = Launch(server_processes, tmp_path)
    yield launch
    launch.kill_all()


@pytest.fixture()
def batcher() -> Iterator[Callable[..., Batcher]]:
    """Factory of batchers that are closed after the test."""
    made: list[Batcher] = []

    def make(**options: Any) -> Batcher:
        made.append(Batcher(BatchingOptions(**options)))
        return made[-1]

    yield make
    for one in made:
        one.close()
