"""Real model servers for tests: embedded ones from a fork server, or a `tensorflow_model_server`.

`SLIPWAY_TEST_ENGINE` names the engine: `embedded` (default), or the path of a tensorflow_model_server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
