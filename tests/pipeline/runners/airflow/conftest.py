"""Real Airflows for the tests of this folder, one of each version a session, each with a folder of DAGs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.runners.airflow.installation import Installation, postgres


@contextlib.contextmanager
def running(version: str, folder: Path, dags: Path, database: str) -> Iterator[Installation]:
    """Start an Airflow that reads a folder of DAGs."""
    home = folder / f"airflow-{version}"
    home.mkdir()
    installation = Installation(version, home, dags, database)
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()


@pytest.fixture(scope="session")
def database() -> Iterator[Callable[[str], str]]:
    """Make databases on a PostgreSQL server of the session: `database(name) -> URL`."""
    with postgres() as make:
        yield make


@pytest.fixture(scope="session")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that both versions read; DAGs that a test puts there are found within seconds."""
    return tmp_path_factory.mktemp("dags")


@pytest.fixture(scope="session", params=["3", "2"], ids=["airflow-3", "airflow-2"])
def airflow(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    dags_folder: Path,
    database: Callable[[str], str],
) -> Iterator[Installation]:
    """Return a running Airflow of each version in turn."""
    version = request.param
    url = database(f"airflow_{version}")
    with running(version, tmp_path_factory.mktemp("installation"), dags_folder, url) as installation:
        yield installation
