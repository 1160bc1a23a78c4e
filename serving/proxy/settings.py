"""Settings of the Envoy proxy, from a YAML file.

Comes in: a file, or keyword arguments. Goes out: frozen `ProxySettings`, strict on unknown keys. Called by
`serving.proxy.envoy`, `serving.proxy.routes` and the canary's controller.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from serving.errors import ServingError

_ENDPOINT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})\Z")
_HEADER = re.compile(r"[a-z0-9-]+\Z")
_COOKIE = re.compile(r"[A-Za-z0-9_-]+\Z")
Port = Annotated[int, Field(ge=0, le=65535)]


class ProxyError(ServingError):
    """The proxy cannot be configured or run as asked."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Upstream(_Strict):
    """Servers that stand behind the proxy and are all alike."""

    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    """`host:port` of each; a name is resolved again and again, every address behind it counts."""
    health_path: str = "/healthz"
    """Asked over HTTP; a gRPC upstream is asked by the gRPC health protocol instead. Empty for no questions."""

    @field_validator("hosts")
    @classmethod
    def _hosts_are_endpoints(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            endpoint(host)
        return hosts


class Tls(_Strict):
    """PEM files for encrypted connections of clients."""

    certificate: Path
    """Certificate chain."""
    key: Path
    """Private key."""
    client_ca: Path | None = None
    """Authorities of client certificates; if given, every client must have one."""


class Jwt(_Strict):
    """Tokens that every client must show."""

    issuer: str = Field(min_length=1)
    """Who signed them (`iss`)."""
    audiences: tuple[str, ...] = ()
    """One of these must be named (`aud`); any by default."""
    jwks: Path
    """File with the public keys, a JSON Web Key Set."""


class Outliers(_Strict):
    """When a server is taken out because its answers fail."""

    consecutive_failures: int = Field(5, ge=1)
    """Failed answers in a row; a server that fails now and then is left to its peers' statistics."""
    ejection_seconds: float = Field(30.0, gt=0)
    """How long the first time; each time more adds as much."""
    max_ejected_percent: int = Field(50, ge=0, le=100)
    """Largest part of an upstream that is out at once; if all fail, the fault lies elsewhere."""
    interval_seconds: float = Field(5.0, gt=0)
    """How often servers are looked at, and let in again."""


class Limits(_Strict):
    """What the proxy lets through."""

    request_bytes: int = Field(10 * 2**20, ge=1)
    """Largest body; a larger one is answered 413. Requests are buffered, so this is also memory per request."""
    requests_per_second: int = Field(1000, ge=1)
    """Requests that this proxy lets through; others are answered 429."""
    burst: int = Field(2000, ge=1)
    """Requests at once after a pause."""
    connections: int = Field(10_000, ge=1)
    """Connections of clients."""
    upstream_connections: int = Field(1024, ge=1)
    """Connections to each upstream."""
    upstream_requests: int = Field(1024, ge=1)
    """Requests in work at each upstream; others are answered 503 at once."""
    pending_requests: int = Field(512, ge=1)
    """Requests that wait for a connection; others are answered 503 at once."""
    timeout_seconds: float = Field(30.0, gt=0)
    """Limit of a request, with all attempts."""
    attempt_seconds: float = Field(10.0, gt=0)
    """Limit of one attempt."""
    retries: int = Field(2, ge=0)
    """Further attempts, at another server if there is one; predicting twice does no harm."""
    retry_percent: float = Field(20.0, gt=0, le=100)
    """Attempts in work that may be retries, so that retries cannot bring down a server that struggles."""
    idle_seconds: float = Field(300.0, gt=0)
    """When a silent connection is closed."""


class ProxySettings(_Strict):
    """All of the proxy."""

    model: str = Field(min_length=1)
    """Name of the model, for names of clusters and statistics."""
    stable: Upstream
    """Servers over HTTP: gateways, or model servers of the stable version."""
    canary: Upstream | None = None
    """Servers of the canary; None if those of `stable` serve both and go by the label header."""
    grpc_stable: Upstream | None = None
    """Model servers over gRPC; None for no gRPC listener."""
    grpc_canary: Upstream | None = None
    """Servers of the canary over gRPC; needed for weights there, because a gRPC model server reads no header."""
    routes_dir: Path
    """Directory of the routes; Envoy watches it, the canary's controller writes it."""
    address: str = "0.0.0.0"
    """Address that clients reach."""
    http_port: Port = 8080
    """Port for HTTP."""
    grpc_port: Port = 8081
    """Port for gRPC."""
    admin_port: Port = 9901
    """Port of Envoy's administration, always on the loopback interface: it can end the process."""
    user_header: str = "x-user-id"
    """Header that tells users apart; who sends none gets a cookie."""
    user_cookie: str = "slipway-user"
    """That cookie."""
    cookie_days: int = Field(30, ge=1)
    """How long a user without a header is known."""
    label_header: str = "x-slipway-label"
    """Header with the version label that the proxy chose, towards servers and clients."""
    clients_may_choose: bool = False
    """Whether clients may name a label in that header themselves, such as testers do; otherwise it is replaced."""
    limits: Limits = Field(default_factory=Limits)
    """What is let through."""
    outliers: Outliers = Field(default_factory=Outliers)
    """When a server is taken out."""
    health_seconds: float = Field(5.0, gt=0)
    """How often servers are asked for their health."""
    compress: bool = True
    """Whether answers are compressed for clients that accept gzip."""
    access_log: str = "/dev/stdout"
    """File of the access log, JSON lines; empty for none."""
    tls: Tls | None = None
    """Encrypts the connections of clients."""
    jwt: Jwt | None = None
    """Demands tokens; their subject then tells users apart."""

    @field_validator("user_header", "label_header")
    @classmethod
    def _headers_are_names(cls, name: str) -> str:
        if not _HEADER.match(name):
            raise ValueError(f"received {name!r}; expected the name of a header: lower-case letters, digits and dashes")
        return name

    @field_validator("user_cookie")
    @classmethod
    def _cookie_is_name(cls, name: str) -> str:
        if not _COOKIE.match(name):
            raise ValueError(f"received {name!r}; expected the name of a cookie: letters, digits, _ and -")
        return name

    @model_validator(mode="after")
    def _canary_belongs_to_something(self) -> ProxySettings:
        if self.grpc_canary is not None and self.grpc_stable is None:
            raise ValueError("grpc_canary is given without grpc_stable")
        return self


def endpoint(text: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 address stands in brackets.

    Raises:
        ValueError: It is something else.
    """
    found = _ENDPOINT.match(text)
    if found is None or not 0 < int(found[2]) <= 65535:
        raise ValueError(f"received {text!r}; expected host:port, such as gateway:8080 or [::1]:8501")
    return found[1].strip("[]"), int(found[2])


def load_settings(path: str | os.PathLike[str]) -> ProxySettings:
    """Read settings; relative paths in them start at the file's directory.

    Raises:
        ProxyError: The file cannot be read, is no YAML, or has an unknown key or a value that makes no sense.
    """
    from ruamel.yaml import YAML, YAMLError

    file = Path(path)
    try:
        values = YAML(typ="safe").load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ProxyError(f"{file} cannot be read: {error}. Expected YAML with the settings of the proxy.") from error
    if not isinstance(values, dict):
        raise ProxyError(f"{file} holds {type(values).__name__}; expected a mapping with model, stable and routes_dir.")
    folder = file.resolve().parent
    for holder, key in (
        (values, "routes_dir"),
        *((values.get("tls"), key) for key in ("certificate", "key", "client_ca")),
        (values.get("jwt"), "jwks"),
    ):
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            holder[key] = str(folder / holder[key])
    try:
        return ProxySettings.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        known = ", ".join(ProxySettings.model_fields)
        raise ProxyError(f"{file} cannot be used:\n{problems}\nKnown keys: {known}.") from error
