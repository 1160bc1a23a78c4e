from __future__ import annotations

import numpy as np

from transform.digests import group_equal, seeded_rank_key


def test_equal_digests_are_grouped_and_others_not() -> None:
    digests = np.zeros((5, 16), np.uint8)
    digests[1, 15] = digests[3, 15] = 1
    digests[2, 0] = 1
    groups = group_equal(digests)
    assert groups.sizes.tolist() == [2, 2, 1]
    assert groups.members(0).tolist() == [0, 4]
    assert groups.members(1).tolist() == [1, 3]
    assert groups.member_of.tolist() == [0, 1, 2, 1, 0]
    assert groups.first.tolist() == [0, 1, 2]


def test_no_digests_are_no_groups() -> None:
    assert len(group_equal(np.zeros((0, 16), np.uint8)).starts) == 0


def test_rank_depends_on_seed_purpose_and_every_byte() -> None:
    digests = np.eye(16, dtype=np.uint8)
    keys = seeded_rank_key(digests, 7, 1)
    assert len(set(keys.tolist())) == 16
    assert not np.array_equal(keys, seeded_rank_key(digests, 8, 1))
    assert not np.array_equal(keys, seeded_rank_key(digests, 7, 2))
    assert np.array_equal(keys[::-1], seeded_rank_key(digests[::-1], 7, 1))
