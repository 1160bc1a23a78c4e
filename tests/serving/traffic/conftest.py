"""Fixtures of the tests of the traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.publish import publish
from serving.traffic.rollout import ensure
from tests.serving.saved_models import make_plain_model
from tests.serving.server.conftest import model_server, server_processes
from tests.serving.traffic.fakes import Scene

__all__ = ["model_server", "server_processes"]


@pytest.fixture()
def published(tmp_path: Path) -> Path:
    """Base path with versions 1, 2 and 3."""
    base = tmp_path / "served" / "pets"
    for content in ("one", "two", "three"):
        publish(make_plain_model(tmp_path / content, content.encode()), base, name="pets")
    return base


@pytest.fixture()
def state_dir(tmp_path: Path, published: Path) -> Path:
    """State directory in which version 2 is stable and 3 was published afterwards."""
    hidden = tmp_path / "hidden"
    (published / "3").rename(hidden)
    ensure(published, "pets", tmp_path / "state")
    hidden.rename(published / "3")
    return tmp_path / "state"


@pytest.fixture()
def scene(state_dir: Path) -> Scene:
    """A server of version 2, ready for a canary."""
    return Scene(state_dir)
