"""Arithmetic on columns of content digests: grouping equal ones, ranking them by a seed.

Digests are uint8 [N, 16]. `transform.splits`, `transform.ledger` and `transform.ingest` are the callers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def as_words(digests: np.ndarray) -> np.ndarray:
    """Return digests as two big-endian numbers each, uint64 [N, 2], whose order is that of the bytes."""
    return np.ascontiguousarray(digests, np.uint8).reshape(-1, 16).view(">u8").astype(np.uint64)


@dataclass(frozen=True)
class Groups:
    """Equal digests put together; groups are in the order of their digests.

    Attributes:
        order: int64 [N], examples sorted by group, by position within a group.
        starts: int64 [G], where each group starts in `order`.
        member_of: int64 [N], the group of each example.
    """

    order: np.ndarray
    starts: np.ndarray
    member_of: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """The first example of each group, int64 [G]."""
        return self.order[self.starts]

    @property
    def sizes(self) -> np.ndarray:
        """The number of examples in each group, int64 [G]."""
        return np.diff(self.starts, append=len(self.order))

    def members(self, group: int) -> np.ndarray:
        """The examples of one group, int64."""
        start = self.starts[group]
        return self.order[start : start + self.sizes[group]]


def group_equal(digests: np.ndarray) -> Groups:
    """Group equal digests."""
    words = as_words(digests)
    order = np.lexsort((words[:, 1], words[:, 0]))
    ordered = words[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    member_of = np.empty(len(order), np.int64)
    member_of[order] = np.cumsum(fresh) - 1
    return Groups(order, np.flatnonzero(fresh), member_of)


def seeded_rank_key(digests: np.ndarray, seed: int, purpose: int) -> np.ndarray:
    """Return a pseudo-random number per digest, uint64 [N], that depends on nothing but digest and seed.

    Args:
        digests: uint8 [N, 16].
        seed: another seed gives another order.
        purpose: another purpose gives an independent order under the same seed.
    """
    words = as_words(digests)
    salt = _mix(np.array([seed], np.uint64) ^ _mix(np.array([purpose], np.uint64)))
    return _mix(_mix(words[:, 0] ^ salt) ^ words[:, 1])


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's step: G. Steele et al., Fast Splittable Pseudorandom Number Generators, OOPSLA 2014."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
