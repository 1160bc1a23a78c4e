"""Deals examples to train, eval and test by what they hold, not by what they are called.

Columns of digests, labels and given splits come in, a column of splits goes out. `transform.ingest` is the
caller.

Within each class the different contents are ranked by a seeded hash and dealt by quota: test, eval, train. A
ledger keeps what was dealt before in its place; only new contents are dealt, to whatever lacks most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from transform.apportion import apportion
from transform.digests import Groups, group_equal, seeded_rank_key
from transform.errors import DataError
from transform.features import SPLITS
from transform.ledger import Ledger
from transform.settings import SplitSettings

_TRAIN, _EVAL, _TEST = range(3)
_DEAL, _LIMIT = 1, 2
_SCALE = 10**9


@dataclass(frozen=True)
class Assignment:
    """Which example goes where, and what was noticed on the way.

    Attributes:
        split: int8 [N], index into `features.SPLITS`; -1: left out.
        counts: int64 [3, K], examples per split and class.
        groups: examples of equal content.
        copies: examples that repeat the content of another one.
        left_out_copies: of these, how many were left out of train and eval because a more protected split
            holds the content.
        left_out_by_limit: examples beyond the limit.
        conflicts: groups whose members bear different labels, int64.
        kept: contents whose place came from the ledger.
        redealt: whether an earlier ledger was set aside because the split settings changed.
        ledger: the ledger to keep.
    """

    split: np.ndarray
    counts: np.ndarray
    groups: Groups
    copies: int
    left_out_copies: dict[str, int]
    left_out_by_limit: int
    conflicts: np.ndarray
    kept: int
    redealt: bool
    ledger: Ledger


def assign(
    digests: np.ndarray,
    label_ids: np.ndarray,
    given: np.ndarray,
    settings: SplitSettings,
    ledger: Ledger | None = None,
    limit: int | None = None,
    labels: tuple[str, ...] | None = None,
) -> Assignment:
    """Deal examples to the splits.

    The result depends on contents, labels, given splits, settings and ledger; not on order or names.

    Where the data gives splits, these stand; a split that it does not give is carved out of its train part,
    in the proportion of the shares. Equal contents always share a split, whatever their labels. A copy of a
    test or eval example in a less protected given split is left out.

    Args:
        digests: uint8 [N, 16], content digests.
        label_ids: int32 [N], in the range of `labels`.
        given: int8 [N], the split that the data gives, or -1.
        settings: shares, seed, stratification.
        ledger: what was dealt before; None or one of other settings deals from the start.
        limit: keep at most this many examples, each class in proportion; copies go first.
        labels: class names, for messages.

    Raises:
        DataError: if a class has too few different contents for the splits, or the limit leaves too few.
    """
    names = labels or tuple(str(number) for number in range(int(label_ids.max(initial=-1)) + 1))
    groups = group_equal(digests)
    contents = digests[groups.first]
    label = np.minimum.reduceat(label_ids[groups.order], groups.starts) if len(groups.starts) else label_ids[:0]
    highest = np.maximum.reduceat(label_ids[groups.order], groups.starts) if len(groups.starts) else label
    place = np.maximum.reduceat(given[groups.order], groups.starts) if len(groups.starts) else given[:0]

    old = ledger if ledger is not None and ledger.fits(settings) else Ledger.empty(settings)
    open_splits = _open_splits(given, settings)
    place = np.where(place > _TRAIN, place, -1).astype(np.int8)
    if not open_splits.any():
        place[place < 0] = _TRAIN

    chosen = np.ones(len(contents), bool)
    single = limit is not None and limit < len(digests)
    if limit is not None and single:
        chosen = _within_limit(contents, label, place, limit, open_splits, settings.seed, names)

    pool = chosen & (place < 0)
    dealt, kept = _deal(contents[pool], label[pool], old, open_splits, settings, names)
    place[pool] = dealt
    place[~chosen] = -1

    split = place[groups.member_of]
    outranked = (given >= 0) & (given < split) & ~((given == _TRAIN) & pool[groups.member_of])
    left_out_copies = {SPLITS[s]: int(np.sum(outranked & (given == s))) for s in (_TRAIN, _EVAL)}
    split = np.where(outranked, -1, split).astype(np.int8)
    if single:
        split = _first_copy_only(split, groups)
    counts = np.stack([np.bincount(label_ids[split == s], minlength=len(names)) for s in range(3)])
    _require_train(counts, names)
    return Assignment(
        split=split,
        counts=counts,
        groups=groups,
        copies=len(digests) - len(contents),
        left_out_copies=left_out_copies,
        left_out_by_limit=int(np.sum((split < 0) & ~outranked)),
        conflicts=np.flatnonzero(label != highest),
        kept=kept,
        redealt=ledger is not None and len(ledger) > 0 and ledger is not old,
        ledger=old.updated(contents, place),
    )


def _open_splits(given: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Return which splits the hash deals to, bool [3]: all, none, or train and what is not given."""
    wanted = np.array(settings.shares) > 0
    if not (given >= 0).any():
        return wanted
    missing = np.array([False, not (given == _EVAL).any(), not (given == _TEST).any()]) & wanted
    missing[_TRAIN] = missing.any()
    return missing


def _within_limit(
    contents: np.ndarray,
    label: np.ndarray,
    place: np.ndarray,
    limit: int,
    open_splits: np.ndarray,
    seed: int,
    names: tuple[str, ...],
) -> np.ndarray:
    """Return which contents a limit keeps, bool [G]: of each class and split the first in hash order."""
    if limit >= len(contents):
        return np.ones(len(contents), bool)
    stratum = label.astype(np.int64) * 4 + place + 1
    kinds, inverse, sizes = np.unique(stratum, return_inverse=True, return_counts=True)
    need = np.where(kinds % 4 == 0, max(int(open_splits.sum()), 1), 1)
    minimum = np.minimum(sizes, need)
    if minimum.sum() > limit:
        raise DataError(
            f"data.limit is {limit}; {len(names)} classes need at least {minimum.sum()} examples so that "
            "every class stands in every split. Raise the limit."
        )
    quota = apportion(np.array([limit]), sizes[None], minimum[None])[0]
    order, rank = _ranked(inverse, seeded_rank_key(contents, seed, _LIMIT))
    chosen = np.zeros(len(contents), bool)
    chosen[order] = rank < quota[inverse[order]]
    return chosen


def _ranked(row: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort by row, then key; return the order and each element's rank within its row."""
    order = np.lexsort((key, row))
    ordered = row[order]
    starts = np.searchsorted(ordered, ordered)
    return order, np.arange(len(order)) - starts


def _deal(
    contents: np.ndarray,
    label: np.ndarray,
    ledger: Ledger,
    open_splits: np.ndarray,
    settings: SplitSettings,
    names: tuple[str, ...],
) -> tuple[np.ndarray, int]:
    """Deal contents to the open splits; return their splits, int8 [P], and how many the ledger decided."""
    split = ledger.lookup(contents)
    split[(split >= 0) & ~open_splits[split]] = -1
    fresh = split < 0
    row = label.astype(np.int64) if settings.stratify else np.zeros(len(label), np.int64)
    rows = len(names) if settings.stratify else 1
    totals = np.bincount(row, minlength=rows)
    present = totals > 0
    needed = int(open_splits.sum())
    _require_enough(np.bincount(label, minlength=len(names)), needed, open_splits, names)

    shares = np.rint(np.array(settings.shares) * open_splits * _SCALE).astype(np.int64)
    wanted = np.broadcast_to(shares, (rows, 3))
    target = apportion(totals, wanted, present[:, None] * open_splits.astype(np.int64))
    have = np.stack([np.bincount(row[split == s], minlength=rows) for s in range(3)], axis=1)
    lacking = np.maximum(target - have, 0)
    new = np.bincount(row[fresh], minlength=rows)
    minimum = np.zeros_like(lacking)
    minimum[:, _TRAIN] = (have[:, _TRAIN] == 0) & (new > 0) & open_splits[_TRAIN]
    quota = apportion(new, lacking, minimum)

    order, rank = _ranked(row[fresh], seeded_rank_key(contents[fresh], settings.seed, _DEAL))
    of_row = quota[row[fresh][order]]
    test, both = of_row[:, _TEST], of_row[:, _TEST] + of_row[:, _EVAL]
    dealt = np.where(rank < test, _TEST, np.where(rank < both, _EVAL, _TRAIN))
    positions = np.flatnonzero(fresh)[order]
    split[positions] = dealt
    return split, int(np.sum(~fresh))


def _first_copy_only(split: np.ndarray, groups: Groups) -> np.ndarray:
    """Leave out all but one kept example of each content."""
    ordered = split[groups.order] >= 0
    before = np.cumsum(ordered) - ordered
    is_first = ordered & (before == before[groups.starts][groups.member_of[groups.order]])
    out = np.full_like(split, -1)
    out[groups.order[is_first]] = split[groups.order[is_first]]
    return out


def _named(numbers: np.ndarray, counts: np.ndarray, names: tuple[str, ...]) -> str:
    shown = ", ".join(f"{names[number]!r} ({counts[number]})" for number in numbers[:5])
    return shown + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def _require_enough(counts: np.ndarray, needed: int, open_splits: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse classes that cannot stand in every open split."""
    few = np.flatnonzero((counts > 0) & (counts < needed))
    if len(few):
        splits = ", ".join(name for name, is_open in zip(SPLITS, open_splits, strict=True) if is_open)
        raise DataError(
            f"Too few different images in the class(es) {_named(few, counts, names)}; each class needs at "
            f"least {needed}, one for each of {splits}. Add images, merge classes, or remove the folder."
        )


def _require_train(counts: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse classes of which nothing is left to learn from."""
    bare = np.flatnonzero(counts[_TRAIN] == 0)
    if len(bare):
        rest = counts.sum(axis=0)
        raise DataError(
            f"No image is left for training in the class(es) {_named(bare, rest, names)} (in brackets: "
            "images in eval and test). Equal images count once, and an image that stands in test or eval is "
            "left out of train. Add different images of the class to train, or remove it."
        )
