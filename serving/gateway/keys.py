"""API keys: made once, shown once, kept as hashes.

A key reads `slk_ID_SECRET`. The file holds the id, roles and HMAC-SHA256 of the secret under a pepper that lies in
another file; the secret has 256 random bits, so a slow hash would add nothing but load. Called by the command line
and, for every request that shows a key, by `access`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.durable import exclusive_lock
from serving.gateway import secret_files
from serving.gateway.errors import GatewayError
from serving.gateway.settings import Role

_FORM = re.compile(r"slk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,80}")
_LOCK_SECONDS = 10.0


class Key(BaseModel):
    """What is kept of a key. Times are seconds since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str
    roles: tuple[Role, ...]
    hash: str
    created: int
    expires: int | None = None
    revoked: int | None = None

    def is_valid(self, now: float) -> bool:
        """Whether the key opens anything at a time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    keys: tuple[Key, ...] = ()


class KeyStore:
    """The keys of one file; read again whenever the file changes, so that a revocation counts at once.

    Args:
        path: JSON file; need not exist.
        pepper: secret that goes into every hash.
    """

    def __init__(self, path: Path, pepper: bytes) -> None:
        """Read nothing yet."""
        self._path = path
        self._pepper = pepper
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def add(self, name: str, roles: Sequence[Role], days: float | None = None) -> tuple[Key, str]:
        """Make a key.

        Args:
            name: who it is for.
            roles: what it opens.
            days: until it expires; None for never.

        Returns:
            What is kept, and the key itself, which cannot be shown again.

        Raises:
            GatewayError: name, roles or days make no sense, or the file cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise GatewayError(f"got the name {name!r}; expected 1 to 80 printable characters")
        if unknown := set(roles) - set(get_args(Role)):
            raise GatewayError(f"got the role(s) {', '.join(sorted(unknown))}; expected of {', '.join(get_args(Role))}")
        if not roles or (days is not None and not 0 < days < 36_500):
            raise GatewayError("a key needs at least one role, and days, if any, between 0 and 36500")
        secret = secrets.token_urlsafe(32)
        key = Key(
            id=secrets.token_hex(6),
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            hash=self._hash(secret),
            created=int(time.time()),
            expires=None if days is None else int(time.time() + days * 86_400),
        )
        self._change(lambda keys: (*keys, key))
        return key, f"slk_{key.id}_{secret}"

    def revoke(self, key_id: str) -> Key:
        """Let a key open nothing any more.

        Raises:
            GatewayError: no key has this id.
        """
        known = {key.id: key for key in self.list()}
        if key_id not in known:
            raise GatewayError(f"no key has the id {key_id!r}; known: {', '.join(known) or 'none'}")
        revoked = known[key_id].model_copy(update={"revoked": int(time.time())})
        self._change(lambda keys: tuple(revoked if key.id == key_id else key for key in keys))
        return revoked

    def list(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones included."""
        return self._read().keys

    def find(self, presented: str) -> Key | None:
        """Return the valid key that was presented, or None. Takes the same time for unknown and wrong ones."""
        self._refresh()
        parts = _FORM.fullmatch(presented)
        key = self._keys.get(parts[1]) if parts else None
        computed = self._hash(parts[2] if parts else "")
        is_right = hmac.compare_digest(computed, key.hash if key else "0" * len(computed))
        return key if key and is_right and key.is_valid(time.time()) else None

    def _hash(self, secret: str) -> str:
        return hmac.new(self._pepper, secret.encode("ascii"), hashlib.sha256).hexdigest()

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            seen = (0, 0, 0)
        if seen != self._seen:
            self._keys = {key.id: key for key in self._read().keys}
            self._seen = seen

    def _read(self) -> _File:
        try:
            return _File.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _File()
        except OSError as error:
            raise GatewayError(f"the keys in {self._path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise GatewayError(f"{self._path} holds no keys of the gateway: {error.errors()[0]['msg']}") from None

    def _change(self, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with exclusive_lock(self._path.with_name(f".{self._path.name}.lock"), _LOCK_SECONDS):
                file = _File(keys=change(self._read().keys))
                secret_files.write_private(self._path, file.model_dump_json(indent=1).encode() + b"\n")
        except OSError as error:
            raise GatewayError(f"the keys in {self._path} cannot be written: {error.strerror}") from None
