"""Which part of a pipeline runs, and what is not taken from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

ALL = "all"
"""For `no_cache`: every stage."""


@dataclass(frozen=True)
class RunOptions:
    """Options of one run; the default looks at every stage and takes from the cache what it holds."""

    from_stage: str | None = None
    """Take everything before this stage from the last run as it is, and execute this stage anew."""
    to_stage: str | None = None
    """Stop after this stage."""
    no_cache: Sequence[str] = field(default_factory=tuple)
    """Stages that are executed whatever the cache holds."""

    @property
    def selective(self) -> bool:
        """Whether the user asked for something else than a run of everything with the cache."""
        return bool(self.from_stage or self.to_stage or self.no_cache)
