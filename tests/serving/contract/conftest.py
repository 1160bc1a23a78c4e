"""Fixtures of the contract tests: small models whose answers tell which version gave them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.contract.models import build_adder, publish_copy
from tests.serving.server.conftest import model_server, server_processes

__all__ = ["model_server", "server_processes"]

Place = Callable[..., Path]


@pytest.fixture(scope="session")
def adders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SavedModels `1` to `4`; model N adds N to its input."""
    folder = tmp_path_factory.mktemp("adders")
    for number in range(1, 5):
        build_adder(folder / str(number), number)
    return folder


@pytest.fixture()
def base(tmp_path: Path) -> Path:
    """Base path of the model `adder`."""
    path = tmp_path / "adder"
    path.mkdir()
    return path


@pytest.fixture()
def place(adders: Path, base: Path) -> Place:
    """Puts model N below the base path, as version N unless told otherwise, by a rename."""

    def put(number: int, version: int | str | None = None, below: Path | None = None) -> Path:
        return publish_copy(adders / str(number), (below or base) / str(number if version is None else version))

    return put


@pytest.fixture()
def copy_of(adders: Path, tmp_path: Path) -> Callable[[int], Path]:
    """Copies of model N outside of any base path, to be damaged."""

    def make(number: int) -> Path:
        return Path(shutil.copytree(adders / str(number), tmp_path / f"copy-{number}"))

    return make
