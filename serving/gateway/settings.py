"""The gateway's settings: one typed, frozen, strict section for each concern, with every default in sight.

Read from YAML by `serving.gateway.config_file`; every other module of the gateway gets its own section.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Role = Literal["predict", "admin"]
Algorithm = Literal["HS256", "RS256", "EdDSA"]
ImageFormat = Literal["PNG", "JPEG", "GIF", "BMP", "WEBP"]

_MEBIBYTE = 1 << 20
_RATE = r"^[1-9][0-9]{0,6}/(second|minute|hour)$"


class Section(BaseModel):
    """What all sections share: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Listen(Section):
    """Where the gateway accepts connections."""

    host: str = "127.0.0.1"
    """Address; anything else than a loopback address shows the gateway to the network."""
    port: int = Field(8080, ge=0, le=65535)
    """0 takes a free one and prints it."""
    allowed_hosts: tuple[str, ...] = ("*",)
    """Host names that requests may name, such as `*.example.org`; others get 400. Guards against DNS rebinding."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose `X-Forwarded-For` is believed when clients are told apart."""
    body_seconds: float = Field(20.0, gt=0, le=600)
    """Time a client has to send its request; afterwards 408."""
    shutdown_seconds: int = Field(20, ge=0, le=600)
    """Time accepted requests have to finish after SIGTERM."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            ipaddress.ip_network(one, strict=False)
        return value


class Upstream(Section):
    """The model server that answers."""

    url: str = "http://127.0.0.1:8501"
    """Its REST address (`http://`, `https://`)."""
    model: str = Field("default", min_length=1, max_length=200)
    """Name of the model there, `--model_name`."""
    timeout_seconds: float = Field(10.0, gt=0, le=300)
    """Time one answer may take; afterwards 504."""
    labels_file: Path | None = None
    """Class names, one a line in the order of the class ids; without it they are asked from the model itself."""
    versions_seconds: float = Field(1.0, ge=0, le=60)
    """How long it is believed which version a label points to."""

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"got {value!r}; expected an address such as http://127.0.0.1:8501")
        return value.rstrip("/")


class Answers(Section):
    """What an answer holds."""

    top_k: int = Field(5, ge=1, le=1000)
    """Classes listed, most probable first; a request may ask for another number."""
    threshold: float = Field(0.5, ge=0, le=1)
    """Probability below which the answer is "not sure"; a request may name another."""


class Images(Section):
    """What is accepted as a picture. Limits are checked before anything is decoded."""

    max_bytes: int = Field(10 * _MEBIBYTE, ge=1024)
    """Size of one file; beyond it 413."""
    max_pixels: int = Field(50_000_000, ge=1)
    """Width times height; beyond it 422. Phones take up to 48 million."""
    max_batch: int = Field(32, ge=1, le=1024)
    """Pictures in one batch; beyond it 413."""
    max_batch_bytes: int = Field(64 * _MEBIBYTE, ge=1024)
    """Size of a whole batch; beyond it 413."""
    formats: tuple[ImageFormat, ...] = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
    """By content, never by name. All but PNG and JPEG go to the model server as PNG, of GIF the first frame."""
    upright: bool = True
    """Turn pictures as their EXIF orientation says, so that the model sees what the sender sees."""


class Jwt(Section):
    """JSON Web Tokens of an identity provider."""

    jwks_file: Path
    """JSON Web Key Set; read again when it changes."""
    audience: str = Field(min_length=1)
    """Value that the claim `aud` must hold."""
    issuer: str | None = None
    """Value that the claim `iss` must have, if named."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "EdDSA")
    """Accepted algorithms; each key is used with the one of its own type only."""
    leeway_seconds: int = Field(30, ge=0, le=300)
    """How far the clocks may differ."""
    roles_claim: str = "roles"
    """Claim that lists the roles, as a list or separated by spaces."""


class Access(Section):
    """Who may do what."""

    anonymous: tuple[Role, ...] = ("predict",)
    """Roles of those who show neither key nor token; empty: everybody has to."""
    keys_file: Path | None = None
    """Hashed API keys, default `keys.json` in the data directory; read again when it changes."""
    pepper_file: Path | None = None
    """Secret that goes into every hash, default `pepper` in the data directory; keep it on another volume."""
    jwt: Jwt | None = None
    """Tokens are refused unless this is set."""


class Limits(Section):
    """How much one client, and all of them together, may ask for."""

    rate: str = Field("240/minute", pattern=_RATE)
    """Requests of one key, or of one address without key (IPv6: one /64); beyond it 429."""
    feedback_rate: str = Field("60/minute", pattern=_RATE)
    """The same for feedback, which writes to disk."""
    failed_logins: str = Field("20/minute", pattern=_RATE)
    """Wrong keys and tokens of one address; beyond it 429 before they are looked at."""
    storage: str = Field("memory://", pattern=r"^(memory://|rediss?://.+)$")
    """Where counters live: `memory://` for one process, `redis://host:6379/1` for several."""
    concurrency: int = Field(64, ge=1, le=10_000)
    """Requests with pictures in work at a time; beyond it 429."""
    decoders: int = Field(2, ge=1, le=64)
    """Threads that check pictures."""


class Audit(Section):
    """The record of who asked when, without pictures and with hashed identities."""

    enabled: bool = True
    """JSON lines in `audit.jsonl` of the data directory."""
    max_bytes: int = Field(20 * _MEBIBYTE, ge=4096)
    """Size at which a file is put aside."""
    keep: int = Field(10, ge=1, le=1000)
    """Files put aside that are kept."""


class Feedback(Section):
    """What users say about answers: the raw material of a retraining."""

    enabled: bool = True
    """Files in `feedback/` of the data directory."""
    images: bool = True
    """Keep the pictures too; without them only the verdicts are counted."""
    max_total_bytes: int = Field(2048 * _MEBIBYTE, ge=1024)
    """Space all pictures may take; beyond it 507."""
    receipt_hours: float = Field(24, gt=0, le=24 * 90)
    """How long after an answer feedback on it is taken."""


class Traffic(Section):
    """Stable and canary, as `slipway canary` steers them."""

    state_dir: Path | None = None
    """Directory with `traffic.json`; without it every request goes to the newest version."""
    max_shadows: int = Field(16, ge=0, le=1000)
    """Shadow requests under way at a time; further ones are dropped."""


class Page(Section):
    """The web page."""

    enabled: bool = True
    """Offered at `/`."""
    title: str = Field("Slipway", min_length=1, max_length=60)
    """Shown at its top."""


class Jobs(Section):
    """Asynchronous inference: submit, poll, webhook. Read by `serving.jobs`."""

    enabled: bool = True
    """Offered at `/jobs`."""
    queue: Literal["sqlite", "redis"] = "sqlite"
    """`sqlite`: a file in the data directory, shared by processes of one machine; `redis`: taskiq with Redis."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Where Redis is; it must keep an append-only file, or a crash of Redis loses jobs."""
    max_pending: int = Field(1000, ge=1)
    """Jobs waiting or in work; beyond it 429."""
    max_pending_bytes: int = Field(1024 * _MEBIBYTE, ge=1024)
    """Pictures of these jobs together; beyond it 429."""
    max_attempts: int = Field(12, ge=1, le=100)
    """Tries of one job; afterwards it is dead and says why. Twelve outlast 20 minutes without model server."""
    lease_seconds: float = Field(60.0, gt=0, le=3600)
    """Time after which the job of a silent worker goes to another."""
    retry_seconds: float = Field(2.0, gt=0, le=600)
    """Wait before the second try; doubles each time, up to five minutes."""
    result_hours: float = Field(24.0, gt=0, le=24 * 90)
    """How long results can be fetched."""
    workers: int = Field(1, ge=0, le=64)
    """Workers inside the gateway process; 0 leaves all work to `python -m serving.jobs worker`."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts (`host` or `host:port`) that webhooks may name; none unless listed."""
    webhook_secret_file: Path | None = None
    """Key of the webhooks' signature, default `webhook-secret` in the data directory."""
    webhook_attempts: int = Field(8, ge=1, le=100)
    """Tries of one delivery."""
    webhook_seconds: float = Field(5.0, gt=0, le=60)
    """Time one delivery may take."""


class GatewaySettings(Section):
    """Everything the gateway can be told."""

    listen: Listen = Listen()
    upstream: Upstream = Upstream()
    answers: Answers = Answers()
    images: Images = Images()
    access: Access = Access()
    limits: Limits = Limits()
    audit: Audit = Audit()
    feedback: Feedback = Feedback()
    traffic: Traffic = Traffic()
    page: Page = Page()
    jobs: Jobs = Jobs()
    data_dir: Path = Path("runs/gateway")
    """Where secrets, audit, feedback and jobs are kept; made at the first start."""

    @model_validator(mode="after")
    def _fits(self) -> GatewaySettings:
        if self.images.max_batch_bytes < self.images.max_bytes:
            raise ValueError(
                f"images.max_batch_bytes is {self.images.max_batch_bytes}, less than images.max_bytes "
                f"({self.images.max_bytes}); a batch of one picture must fit"
            )
        return self

    @property
    def keys_file(self) -> Path:
        """The API keys."""
        return self.access.keys_file or self.data_dir / "keys.json"

    @property
    def pepper_file(self) -> Path:
        """The secret in every hash."""
        return self.access.pepper_file or self.data_dir / "pepper"
