"""Real Airflows for the tests of this folder, one after the other: even without work they keep a core busy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.runners.airflow.installation import Installation, postgres


@contextlib.contextmanager
def running(version: str, folder: Path, database: str) -> Iterator[Installation]:
    """Start an Airflow with a folder of DAGs of its own; those of another version would cost it minutes."""
    home = folder / f"airflow-{version}"
    (home / "dags").mkdir(parents=True)
    installation = Installation(version, home, home / "dags", database)
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()


@pytest.fixture(scope="module")
def database() -> Iterator[Callable[[str], str]]:
    """Make databases on a PostgreSQL server: `database(name) -> URL`."""
    with postgres() as make:
        yield make


@pytest.fixture(scope="module", params=["3", "2"], ids=["airflow-3", "airflow-2"])
def airflow(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    database: Callable[[str], str],
) -> Iterator[Installation]:
    """Return a running Airflow of each version in turn."""
    version = request.param
    url = database(f"airflow_{version}")
    with running(version, tmp_path_factory.mktemp("installation"), url) as installation:
        yield installation
