"""`--set a.b=c`: changes to the tree of a YAML file before it is validated.

`loading` calls `apply` with the tree of the file; the values become subject to the same checks as the file's.
"""

from __future__ import annotations

import re
from typing import Any

from pipeline.config import yaml_tree
from pipeline.config.fields import default_at
from pipeline.config.messages import shown
from pipeline.config.origins import Origin
from pipeline.config.yaml_tree import Path, dotted
from pipeline.errors import ConfigError

_INDEX = re.compile(r"[0-9]{1,9}")


def apply(root: dict[str, Any], positions: dict[Path, Origin], override: str) -> None:
    """Write one override into a tree.

    A section or list that the file leaves out starts from its default, so that `transform.size.0=64` and
    `evaluate.gates.accuracy.min=0.9` work on any file.

    Args:
        root: the tree of the file; changed in place.
        positions: the origins of its values; changed in place.
        override: `path=value` with the value in YAML.

    Raises:
        ConfigError: if the override is no `path=value`, or its path leads through a value that holds nothing.
    """
    path, value = _read(override)
    holder: Any = root
    for depth in range(len(path) - 1):
        here = path[: depth + 1]
        _require_place(holder, here, override)
        part = here[-1]
        child = holder.get(part) if isinstance(holder, dict) else holder[int(part)]
        if child is None:
            child = default_at(here)
            child = {} if child is None or isinstance(child, dict) else child
            holder[part if isinstance(holder, dict) else int(part)] = child
            positions.setdefault(_typed(root, here), Origin(override=override))
        holder = child
    _require_place(holder, path, override)
    if isinstance(holder, list):
        holder[int(path[-1])] = value
    else:
        holder[path[-1]] = value
    _record(_typed(root, path), value, positions, Origin(override=override))


def _read(override: str) -> tuple[tuple[str, ...], Any]:
    address, equals, text = override.partition("=")
    path = tuple(part.strip() for part in address.split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"--set {override}: expected section.key=value, for example train.epochs=3 or "
            "evaluate.gates.accuracy.min=0.9"
        )
    tree = yaml_tree.parse(text)
    if tree.problems:
        raise ConfigError(*(f"--set {override}: {problem.text}" for problem in tree.problems))
    return path, tree.value


def _require_place(holder: Any, path: tuple[str, ...], override: str) -> None:
    if isinstance(holder, dict):
        return
    where = dotted(path[:-1])
    if not isinstance(holder, list):
        raise ConfigError(f"--set {override}: {where} is {shown(holder)}, which holds no {path[-1]!r}")
    if not _INDEX.fullmatch(path[-1]) or int(path[-1]) >= len(holder):
        raise ConfigError(
            f"--set {override}: {where} is a list of {len(holder)} items; expected a position from 0 to "
            f"{len(holder) - 1} instead of {path[-1]!r}, or the whole list: {where}={shown([*holder, '…'])}"
            if holder
            else f"--set {override}: {where} is an empty list; set the whole list, for example {where}=[…]"
        )


def _typed(root: Any, path: tuple[str, ...]) -> Path:
    """Return a path with numbers for positions in lists."""
    typed: list[str | int] = []
    holder = root
    for part in path:
        step: str | int = int(part) if isinstance(holder, list) else part
        typed.append(step)
        holder = holder[step]
    return tuple(typed)


def _record(path: Path, value: Any, positions: dict[Path, Origin], origin: Origin) -> None:
    for old in [known for known in positions if known[: len(path)] == path]:
        del positions[old]
    positions[path] = origin
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        _record((*path, key), item, positions, origin)
