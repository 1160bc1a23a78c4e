"""Which versions should be served, and what to do next to get there; pure functions.

Comes in: the versions that are there and where each stands. Goes out: the wanted set and the next step. Called by the
manager after every event.

The steps follow TensorFlow Serving's availability-preserving policy: a version that is no longer wanted goes only when
a wanted one is available, or when none is wanted at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from serving.server.config.models import VersionPolicy

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        kind: Load or unload.
        version: Which version.
    """

    kind: Literal["load", "unload"]
    version: int


def wanted(policy: VersionPolicy, present: Collection[int], failing: Collection[int]) -> frozenset[int]:
    """Versions that should be served.

    Args:
        policy: The model's policy.
        present: Versions that are there and complete.
        failing: Those that could not be loaded so far.

    Returns:
        Under `latest`, the largest numbers down to the count-th that is not failing: a damaged version on top is tried
        again, but does not take the place of the good one below it. Under the other policies all that match.
    """
    if policy.kind == "all":
        return frozenset(present)
    if policy.kind == "specific":
        return policy.versions & frozenset(present)
    chosen: set[int] = set()
    good = 0
    for version in sorted(present, reverse=True):
        if good == policy.count:
            break
        chosen.add(version)
        good += version not in failing
    return frozenset(chosen)


def next_step(states: Mapping[int, State], want: Collection[int]) -> Step | None:
    """What to do now, or None if everything is on its way.

    Args:
        states: State of each version that lives; START means that it waits to be loaded.
        want: What `wanted` says.
    """
    surplus = [version for version, state in states.items() if state == "AVAILABLE" and version not in want]
    served = any(states.get(version) == "AVAILABLE" for version in want)
    if surplus and (served or not want):
        return Step("unload", min(surplus))
    waiting = [version for version, state in states.items() if state == "START" and version in want]
    return Step("load", max(waiting)) if waiting else None
