"""Remembers what `.venv` was made from, so that the next call does nothing; lets one set-up run at a time.

In comes the clone's folder; out go the differences between what the environment should be and what it is. The
stamp is written last and removed first: an interrupted set-up leaves none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# What is hashed. A change in any of them makes the environment out of date.
SOURCES = ("requirements.lock", "pyproject.toml", "setup.py")
# To be raised when the set-up itself does something else than before.
RECIPE = 1

REDO = "redo"
UPDATE = "update"
NOTHING = "nothing"


def wanted(root: Path) -> dict[str, object]:
    """What a complete environment of this clone would have been made from."""
    hashes = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in SOURCES}
    return {"recipe": RECIPE, "root": str(root), **hashes}


def read(root: Path) -> dict[str, object]:
    """The stamp of the environment that is there; empty if there is none or it is damaged."""
    try:
        stamp = json.loads(_path(root).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def work_to_do(root: Path) -> str:
    """Say what a set-up has to do.

    Returns:
        `NOTHING` if the environment is complete and up to date; `UPDATE` if only the packages or the project
        have changed; `REDO` if it is missing, unfinished, moved, or its interpreter is gone.
    """
    stamp = read(root)
    python = stamp.pop("python", None)
    link = root / ".venv/bin/python"
    if not (python and link.exists() and os.path.realpath(str(link)) == python):
        return REDO
    target = wanted(root)
    if stamp == target:
        return NOTHING
    same_place = all(stamp.get(key) == target[key] for key in ("recipe", "root"))
    return UPDATE if same_place else REDO


def remove(root: Path) -> None:
    """Declare the environment unfinished."""
    with contextlib.suppress(FileNotFoundError):
        _path(root).unlink()


def write(root: Path, state: dict[str, object]) -> None:
    """Declare the environment complete.

    Args:
        root: the clone.
        state: what `wanted` returned before the set-up began; a lock that was edited meanwhile then shows.
    """
    python = os.path.realpath(str(root / ".venv/bin/python"))
    beside = _path(root).with_suffix(".new")
    beside.write_text(json.dumps({**state, "python": python}, indent=1) + "\n", encoding="utf-8")
    os.replace(str(beside), str(_path(root)))


@contextlib.contextmanager
def one_at_a_time(tools: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold the clone's set-up lock; the kernel frees it when the last process that has it open is gone.

    Args:
        tools: the clone's folder for its own tools; holds the lock file.
        on_wait: called once if another set-up has the lock, before waiting for it.

    Yields:
        The lock's file descriptor, to be inherited by the tools that change the environment.
    """
    tools.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(str(tools / "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _path(root: Path) -> Path:
    return root / ".venv" / "slipway-stamp.json"
