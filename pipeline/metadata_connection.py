"""How to reach a pipeline's metadata store, and what to do while it is away.

Comes in: the section `metadata` and the work directory. Goes out: TFX's connection config, once without the password
for what is compiled and kept, and once with it for what connects now; a store and TFX's handle that ask again while a
server restarts. Whether an operation may be repeated is known to those who call `patiently`: reading may, and what the
launcher writes is made so (`pipeline.runners.launching`).
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ml_metadata as mlmd
from google.api_core import exceptions, retry
from ml_metadata import errors
from ml_metadata.proto import metadata_store_pb2

from pipeline.config.metadata_store import MetadataSettings
from pipeline.errors import ConfigError
from pipeline.postgresql_store import PostgresqlStore
from pipeline.workdir import WorkDir

T = TypeVar("T")

REFUSED_SECONDS = 20
"""A server that answers and refuses the connection is asked again for this long: it may be starting."""

_PASSING = (errors.AbortedError, errors.UnavailableError, errors.DeadlineExceededError)
_PASSING_WORDS = re.compile(
    r"connection|gone away|can't connect|shut ?down|starting up|recovery|deadlock|lock wait|serialize|is locked|"
    r"duplicate (key|entry)",
    re.I,
)
"""What InternalError says when the server went away, or two transactions met; its code is that of any failure."""

_CONNECTING = re.compile("mysql_|postgresql|mysql database", re.I)

_log = logging.getLogger(__name__)


class MetadataAway(RuntimeError):
    """The metadata store didn't answer for as long as the config allows."""

    exit_code: int = 1


@dataclass(frozen=True)
class MetadataAccess:
    """The way to a metadata store, password included.

    Attributes:
        settings: the section `metadata`.
        connection: for MLMD.
    """

    settings: MetadataSettings
    connection: metadata_store_pb2.ConnectionConfig = field(repr=False)

    @classmethod
    def of(cls, settings: MetadataSettings, workdir: WorkDir) -> MetadataAccess:
        """Return the way to a pipeline's store.

        Args:
            settings: the section `metadata`.
            workdir: where the SQLite file lies, if it is one.

        Raises:
            ConfigError: the environment variable with the password isn't set.
        """
        return cls(settings, with_password(metadata_connection(settings, workdir), settings))

    def open(self) -> mlmd.MetadataStore:
        """Connect; the database and its tables are made if there are none.

        Raises:
            MetadataAway: the server didn't answer.
            ConfigError: it answers and refuses.
        """
        return self.patiently(self.connect)

    def connect(self) -> mlmd.MetadataStore:
        """Do the same without patience."""
        store = PostgresqlStore if self.settings.kind == "postgresql" else mlmd.MetadataStore
        return store(self.connection)

    def patiently(self, action: Callable[[], T]) -> T:
        """Do something with the store, again and again while it is away.

        Args:
            action: may be repeated.

        Raises:
            MetadataAway: the store was away for too long.
            ConfigError: a server answers, but refuses the connection.
        """
        started = time.monotonic()

        def may_pass(error: Exception) -> bool:
            if not self._is_away(error):
                return False
            refused = _of_connecting(error) and self._answers()
            return not (refused and time.monotonic() - started > min(REFUSED_SECONDS, self.settings.patience_seconds))

        def say(error: Exception) -> None:
            _log.warning("the metadata store (%s) is away: %s", self.settings.in_words(), _first_line(error))

        patient = retry.Retry(
            may_pass, initial=0.5, maximum=10.0, multiplier=2.0, timeout=self.settings.patience_seconds, on_error=say
        )
        try:
            return patient(action)()
        except exceptions.RetryError as error:
            raise self._given_up(error.cause or error) from error
        except RuntimeError as error:
            if isinstance(error, MetadataAway) or not self._is_away(error):
                raise
            raise self._given_up(error) from error

    def _is_away(self, error: BaseException) -> bool:
        """Return whether an error says that the store can't be reached now, or that two transactions met."""
        if isinstance(error, MetadataAway):
            return False
        if isinstance(error, _PASSING):
            return True
        if isinstance(error, errors.InternalError):
            return bool(_PASSING_WORDS.search(str(error)))
        return _of_connecting(error) or (type(error) is RuntimeError and "is locked" in str(error))

    def _answers(self) -> bool:
        """Return whether something listens at the server's address."""
        if self.settings.kind == "sqlite":
            return False
        try:
            socket.create_connection(self.settings.address, timeout=5).close()
        except OSError:
            return False
        return True

    def _given_up(self, error: BaseException) -> Exception:
        """Return the error for the user."""
        words = self.settings.in_words()
        if _of_connecting(error) and self._answers():
            variable = f" in ${self.settings.password_env}" if self.settings.password_env else " (none is set)"
            return ConfigError(
                f"the metadata store ({words}) answers, but refuses the connection; check metadata.user, the password"
                f"{variable}, metadata.database and metadata.tls. It says: {_first_line(error)}"
            )
        return MetadataAway(
            f"the metadata store ({words}) was away for {self.settings.patience_seconds} s "
            f"(metadata.patience_seconds): {_first_line(error)}. Bring it back and start the same again: what was done "
            "stays done"
        )


class PatientStore:
    """A metadata store for reading, and for writes that may be repeated: every call is made again while it is away."""

    def __init__(self, access: MetadataAccess):
        """Initialize; the first call connects.

        Args:
            access: the way to the store.
        """
        self._access = access
        self._store: mlmd.MetadataStore | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method of MLMD's store."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._access.patiently(lambda: self._once(name, *args, **kwargs))

        return call

    def _once(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self._store is None:
            self._store = self._access.connect()
        try:
            return getattr(self._store, name)(*args, **kwargs)
        except errors.StatusError:
            self._store = None  # the connection may be broken; a new one costs milliseconds
            raise


def metadata_connection(settings: MetadataSettings, workdir: WorkDir) -> metadata_store_pb2.ConnectionConfig:
    """Return how to reach the metadata store, without the password.

    Args:
        settings: the section `metadata`.
        workdir: where the SQLite file lies, if it is one.
    """
    connection = metadata_store_pb2.ConnectionConfig()
    if settings.kind == "sqlite":
        connection.sqlite.filename_uri = str(workdir.metadata)
        connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return connection
    host, port = settings.address
    if settings.kind == "mysql":
        server = connection.mysql
        server.host, server.port, server.database, server.user = host, port, settings.database, settings.user
        if settings.tls:
            server.ssl_options.verify_server_cert = False  # its being set is what switches TLS on
            server.ssl_options.cert, server.ssl_options.key = settings.tls_cert or "", settings.tls_key or ""
        return connection
    connection.postgresql.host, connection.postgresql.port = host, str(port)
    connection.postgresql.dbname, connection.postgresql.user = settings.database, _quoted(str(settings.user))
    return connection


def with_password(
    connection: metadata_store_pb2.ConnectionConfig, settings: MetadataSettings
) -> metadata_store_pb2.ConnectionConfig:
    """Return a copy of a connection that holds the password, from the environment variable that the config names.

    Raises:
        ConfigError: the variable isn't set.
    """
    if settings.password_env is None:
        return connection
    password = os.environ.get(settings.password_env)
    if password is None:
        raise ConfigError(
            f"metadata.password_env: the environment variable {settings.password_env} isn't set; expected the password "
            f"of {settings.in_words()}"
        )
    copy = metadata_store_pb2.ConnectionConfig()
    copy.CopyFrom(connection)
    if settings.kind == "mysql":
        copy.mysql.password = password
    else:
        copy.postgresql.password = _quoted(password)
    return copy


def _quoted(value: str) -> str:
    """Return a value for libpq's connection string, into which MLMD puts it as it is."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _of_connecting(error: BaseException) -> bool:
    """Return whether an error is one of connecting to a server: MLMD raises plain RuntimeErrors there."""
    return type(error) is RuntimeError and bool(_CONNECTING.search(str(error)))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
