"""Secrets in files: made once, readable by their owner only, never printed.

Called when the gateway starts and by its command line.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from serving.gateway.errors import GatewayError

_BYTES = 32
_FEWEST = 16


def load_or_make(path: Path) -> bytes:
    """Return the secret that a file holds; a missing file is made with a new one.

    Args:
        path: text file of one line.

    Returns:
        The line's bytes.

    Raises:
        GatewayError: the file cannot be made, others may read it, or it is too short to be a secret.
    """
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            return _read(path)
        _make(path)
    return _read(path)


def write_private(path: Path, content: bytes) -> None:
    """Replace a file as a whole; only its owner may read it. A crash leaves the old or the new content."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _make(path: Path) -> None:
    """Write a new secret beside and link it, so that two processes that start together agree on one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(temporary, secrets.token_hex(_BYTES).encode() + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    except OSError as error:
        raise GatewayError(
            f"the secret {path} cannot be made: {error.strerror}; set data_dir to a folder that can be written"
        ) from None


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes().strip()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GatewayError(f"the secret {path} cannot be read: {error.strerror}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise GatewayError(
            f"the secret {path} has mode {stat.S_IMODE(mode):04o}, so others can read or change it; "
            f"run `chmod 600 {path}`"
        )
    if len(content) < _FEWEST:
        raise GatewayError(f"the secret {path} has {len(content)} bytes; expected at least {_FEWEST} random ones")
    return content
