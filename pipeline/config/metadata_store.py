"""The section `metadata`: where ML Metadata keeps what runs did."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from transform.settings import Settings

_PORTS = {"mysql": 3306, "postgresql": 5432}


class MetadataSettings(Settings):
    """Which metadata store the runs of this pipeline share."""

    kind: Literal["sqlite", "mysql", "postgresql"] = Field(
        "sqlite",
        description="sqlite: a file in the work directory, right for one machine; a server: for nodes on several ones",
    )
    host: str | None = Field(None, min_length=1, max_length=255, description="name or address of the server")
    port: int | None = Field(None, ge=1, le=65535, description="its port; unset: 3306 for mysql, 5432 for postgresql")
    database: str | None = Field(
        None, description="name of the database; it is made if there is none and the user may do so"
    )
    user: str | None = Field(None, min_length=1, max_length=63, description="who connects")
    password_env: str | None = Field(
        None,
        description="environment variable that holds the password, which is written down nowhere; unset: no password",
    )
    tls: bool = Field(
        False,
        description="true: the connection is encrypted (mysql only; the client library doesn't check certificates)",
    )
    tls_cert: str | None = Field(None, description="client certificate (PEM), for users that must show one")
    tls_key: str | None = Field(None, description="its key (PEM)")
    patience_seconds: int = Field(
        180,
        ge=0,
        le=86_400,
        description="how long a server that doesn't answer is asked again; three minutes outlast its restart",
    )

    @field_validator("database")
    @classmethod
    def _database_is_a_plain_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch("[a-z_][a-z0-9_]{0,62}", name):
            raise ValueError(f"received {name!r}; expected 1 to 63 lowercase letters, digits and _, no digit first")
        return name

    @field_validator("password_env")
    @classmethod
    def _is_the_name_of_a_variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("expected the name of an environment variable, such as SLIPWAY_DB_PASSWORD, not a value")
        return name

    @model_validator(mode="after")
    def _fits_its_kind(self) -> MetadataSettings:
        names = ("host", "port", "database", "user", "password_env", "tls_cert", "tls_key")
        given = [name for name in names if getattr(self, name) is not None]
        if self.kind == "sqlite" and (given or self.tls):
            raise ValueError(
                f"{given[0] if given else 'tls'} is set, but kind is sqlite, a file in the work directory; set kind to "
                "mysql or postgresql, or remove it"
            )
        missing = [name for name in ("host", "database", "user") if getattr(self, name) is None]
        if self.kind != "sqlite" and missing:
            raise ValueError(f"kind is {self.kind}, but {' and '.join(missing)} is missing")
        if self.kind == "postgresql" and (self.tls or self.tls_cert or self.tls_key):
            raise ValueError(
                "tls is set, but ML Metadata's client library has no TLS for postgresql; use a tunnel or a proxy on "
                "this machine (pgbouncer, stunnel), or mysql"
            )
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_cert and not self.tls):
            raise ValueError("tls_cert and tls_key go together, and need tls: true")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        return str(self.host), self.port or _PORTS[self.kind]

    def in_words(self) -> str:
        """Return which store this is, without a password."""
        if self.kind == "sqlite":
            return "the SQLite file in the work directory"
        host, port = self.address
        return f"{self.kind} at {host}:{port}, database {self.database}, user {self.user}"
