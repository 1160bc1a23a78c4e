"""The way to a metadata store: what is kept without its password, and how long a store that is away is asked again."""

from __future__ import annotations

import socket

import pytest
from google.api_core import retry
from ml_metadata import errors

from pipeline.config.metadata_store import MetadataSettings
from pipeline.errors import ConfigError
from pipeline.metadata_connection import MetadataAccess, MetadataAway, metadata_connection, with_password
from pipeline.workdir import WorkDir

SECRET = "it's a \\ s3cret"


@pytest.fixture
def workdir(tmp_path) -> WorkDir:
    return WorkDir(tmp_path)


@pytest.fixture
def naps(monkeypatch) -> list[float]:
    """Return the pauses between attempts, which take no time."""
    taken: list[float] = []
    monkeypatch.setattr(retry.retry_unary.time, "sleep", taken.append)
    return taken


def server(kind: str, **changes) -> MetadataSettings:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    values = {"host": "127.0.0.1", "port": port, "database": "meta", "user": "o'hara", **changes}
    return MetadataSettings(kind=kind, **values)


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_the_password_is_only_in_what_connects(kind, workdir, monkeypatch):
    settings = server(kind, password_env="SLIPWAY_TEST_PASSWORD")
    monkeypatch.setenv("SLIPWAY_TEST_PASSWORD", SECRET)
    access = MetadataAccess.of(settings, workdir)
    assert "s3cret" in str(access.connection)
    assert "s3cret" not in str(metadata_connection(settings, workdir))
    assert "s3cret" not in repr(access) + settings.in_words() + settings.model_dump_json()


def test_values_for_postgresql_are_quoted_as_libpq_wants_them(workdir, monkeypatch):
    monkeypatch.setenv("SLIPWAY_TEST_PASSWORD", SECRET)
    access = MetadataAccess.of(server("postgresql", password_env="SLIPWAY_TEST_PASSWORD"), workdir)
    assert access.connection.postgresql.password == r"'it\'s a \\ s3cret'"
    assert access.connection.postgresql.user == r"'o\'hara'"


def test_a_missing_password_is_named(workdir, monkeypatch):
    monkeypatch.delenv("SLIPWAY_TEST_PASSWORD", raising=False)
    settings = server("mysql", password_env="SLIPWAY_TEST_PASSWORD")
    with pytest.raises(ConfigError, match="SLIPWAY_TEST_PASSWORD isn't set"):
        with_password(metadata_connection(settings, workdir), settings)


@pytest.mark.parametrize(
    "error",
    [
        errors.InternalError("mysql_query failed: errno: Lost connection to MySQL server during query"),
        errors.InternalError("PostgreSQL metadata source error: FATAL:  the database system is starting up"),
        errors.InternalError("mysql_query failed: Deadlock found when trying to get lock"),
        errors.AbortedError("concurrent"),
        errors.UnavailableError("away"),
        RuntimeError("mysql_real_connect failed: errno: , error: "),
        RuntimeError("PostgreSQL metadata source error: connection pointer is NULL"),
    ],
)
def test_a_store_that_comes_back_is_asked_again(error, workdir, naps):
    answers = [error, error, "here"]

    def action() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert MetadataAccess.of(server("mysql"), workdir).patiently(action) == "here"
    assert len(naps) == 2


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFoundError("no such type"),
        errors.InternalError("no such column"),
        RuntimeError("a bug"),
        KeyError("x"),
    ],
)
def test_other_errors_are_raised_at_once(error, workdir, naps):
    def action() -> None:
        raise error

    with pytest.raises(type(error)):
        MetadataAccess.of(server("mysql"), workdir).patiently(action)
    assert not naps


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_a_store_that_stays_away_is_given_up_with_a_sentence(kind, workdir):
    with pytest.raises(MetadataAway, match=rf"{kind} at 127\.0\.0\.1.*was away for 1 s.*stays done") as caught:
        MetadataAccess.of(server(kind, patience_seconds=1), workdir).open()
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_something_else_at_the_address_is_said(kind, workdir):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = server(kind, port=listener.getsockname()[1], patience_seconds=0)
        access = MetadataAccess.of(settings, workdir)

        def action() -> None:
            raise RuntimeError("PostgreSQL metadata source error: connection pointer is NULL")

        with pytest.raises(ConfigError, match="answers, but refuses the connection"):
            access.patiently(action)


def test_a_file_that_is_no_database_is_no_store_that_is_away(workdir, naps):
    workdir.metadata.write_bytes(b"not a database, only some text that is long enough to be looked at" * 20)
    with pytest.raises(RuntimeError):
        MetadataAccess.of(MetadataSettings(), workdir).open()
    assert not naps
