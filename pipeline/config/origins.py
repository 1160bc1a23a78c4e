"""Where each value of a config comes from: a line of the file, an override, or nowhere (a default).

`loading` collects the origins, `show` prints them, and messages point to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config.yaml_tree import Path


@dataclass(frozen=True)
class Origin:
    """The place at which a value was written.

    Attributes:
        line: line of the file, from 1; None for an override.
        override: the text after `--set`; None for the file.
    """

    line: int | None = None
    override: str | None = None

    def words(self) -> str:
        """Return the origin as `config show` prints it."""
        return f"--set {self.override}" if self.override is not None else f"line {self.line}"


Positions = Mapping[Path, Origin]
"""The origin of every value that was written; a path that is missing has its default."""


def origin_of(path: Path, positions: Positions) -> Origin | None:
    """Return where a path, or the nearest section around it, was written; None if nowhere."""
    while path:
        if path in positions:
            return positions[path]
        path = path[:-1]
    return None
