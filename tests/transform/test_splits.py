from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transform.errors import DataError
from transform.settings import SplitSettings
from transform.sources.base import content_digest
from transform.splits import Assignment, assign


def digests(contents: list[int] | np.ndarray) -> np.ndarray:
    """Digests of examples whose content is a number."""
    joined = b"".join(content_digest(str(content).encode()) for content in contents)
    return np.frombuffer(joined, np.uint8).reshape(-1, 16)


def deal(
    contents: list[int] | np.ndarray,
    classes: list[int] | np.ndarray,
    given: list[int] | None = None,
    **options: Any,
) -> Assignment:
    splits = np.full(len(contents), -1, np.int8) if given is None else np.array(given, np.int8)
    chosen = options.pop("settings", SplitSettings())
    return assign(digests(contents), np.asarray(classes, np.int32), splits, chosen, **options)


def several(classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(classes * each), np.arange(classes * each) % classes


# Twelve to forty examples of two to four classes, some of them copies of others.
sets = st.integers(2, 4).flatmap(
    lambda classes: st.tuples(
        st.lists(st.integers(0, 30), max_size=20),
        st.just(classes),
        st.integers(4, 10),
    )
)


def with_copies(copies: list[int], classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    contents, labels = several(classes, each)
    chosen = np.array([copy % len(contents) for copy in copies], int)
    return np.concatenate([contents, contents[chosen]]), np.concatenate([labels, labels[chosen]])


@settings(max_examples=40)
@given(sets, st.randoms(use_true_random=False))
def test_order_makes_no_difference(data: tuple[list[int], int, int], random: Random) -> None:
    contents, labels = with_copies(*data)
    shuffled = list(range(len(contents)))
    random.shuffle(shuffled)
    first, second = deal(contents, labels), deal(contents[shuffled], labels[shuffled])
    assert np.array_equal(first.split[shuffled], second.split)


@settings(max_examples=40)
@given(sets)
def test_copies_share_a_split(data: tuple[list[int], int, int]) -> None:
    contents, labels = with_copies(*data)
    result = deal(contents, labels)
    for content in set(contents.tolist()):
        assert len(set(result.split[contents == content].tolist())) == 1
    assert result.copies == len(contents) - len(set(contents.tolist()))
    assert result.counts.sum() == len(contents)


@settings(max_examples=40)
@given(sets, st.integers(1, 60), st.integers(0, 5))
def test_growth_moves_nothing(data: tuple[list[int], int, int], more: int, rounds: int) -> None:
    contents, labels = with_copies(*data)
    result = deal(contents, labels)
    for step in range(rounds):
        fresh = 1000 * (step + 1) + np.arange(more)
        contents = np.concatenate([contents, fresh])
        labels = np.concatenate([labels, fresh % data[1]])
        grown = deal(contents, labels, ledger=result.ledger)
        assert np.array_equal(grown.split[: len(result.split)], result.split)
        assert not grown.redealt
        result = grown


def test_growth_fills_the_quotas() -> None:
    contents, labels = several(2, 10)
    first = deal(contents, labels)
    contents, labels = several(2, 1000)
    grown = deal(contents, labels, ledger=first.ledger)
    assert grown.counts.tolist() == [[800, 800], [100, 100], [100, 100]]
    assert grown.kept == 20


def test_an_example_that_comes_back_returns_to_its_place() -> None:
    contents, labels = several(2, 30)
    first = deal(contents, labels)
    without = deal(contents[20:], labels[20:], ledger=first.ledger)
    again = deal(contents, labels, ledger=without.ledger)
    assert np.array_equal(first.split, again.split)


def test_other_settings_deal_anew_and_say_so() -> None:
    contents, labels = several(2, 100)
    first = deal(contents, labels)
    other = deal(contents, labels, ledger=first.ledger, settings=SplitSettings(seed=8))
    assert other.redealt
    assert not np.array_equal(first.split, other.split)
    assert np.array_equal(other.split, deal(contents, labels, settings=SplitSettings(seed=8)).split)


@settings(max_examples=40)
@given(st.lists(st.integers(3, 200), min_size=1, max_size=6), st.integers(0, 10))
def test_every_class_gets_its_shares(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    result = deal(np.arange(len(labels)), labels, settings=SplitSettings(seed=seed))
    for column, size in enumerate(sizes):
        exact = size * np.array([0.8, 0.1, 0.1])
        # A class of fewer than ten may owe one example each to eval and test.
        assert np.abs(result.counts[:, column] - exact).max() < (1 + 1e-9 if size >= 10 else 2)
        assert result.counts[:, column].min() >= 1


def test_without_stratification_the_pot_is_dealt_as_one() -> None:
    contents, labels = several(10, 100)
    result = deal(contents, labels, settings=SplitSettings(stratify=False))
    assert result.counts.sum(axis=1).tolist() == [800, 100, 100]
    assert len(set(result.counts[2].tolist())) > 1


def test_no_test_share_deals_no_test_split() -> None:
    contents, labels = several(2, 10)
    result = deal(contents, labels, settings=SplitSettings(train=0.9, eval=0.1, test=0.0))
    assert result.counts.tolist() == [[9, 9], [1, 1], [0, 0]]


def test_a_class_with_too_few_contents_is_named_with_its_number() -> None:
    with pytest.raises(
        DataError, match=r"'rare' \(2\); each class needs at least 3, one for each of train, eval, test"
    ):
        deal([0, 1, 2, 3, 4, 4], [0, 0, 0, 1, 1, 1], labels=("usual", "rare"))


def test_given_splits_stand_and_the_missing_one_is_carved_out_of_train() -> None:
    contents, labels = several(2, 90)
    given_splits = [0] * 160 + [2] * 20
    result = deal(contents, labels, given_splits)
    assert (result.split[160:] == 2).all()
    assert result.counts.sum(axis=1).tolist() == [142, 18, 20]


def test_complete_given_splits_are_not_dealt() -> None:
    contents, labels = several(2, 3)
    assert deal(contents, labels, [0, 0, 1, 1, 2, 2]).split.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_copy_of_a_protected_example_is_left_out_of_the_less_protected_split() -> None:
    contents = [0, 1, 2, 3, 4, 5, 10, 11, 20, 21, 10, 20, 21, 11]
    given_splits = [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 0, 0, 1, 1]
    result = deal(contents, [i % 2 for i in contents], given_splits)
    assert result.split.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, -1, -1, -1, 1]
    assert result.left_out_copies == {"train": 2, "eval": 1}
    assert result.copies == 4


def test_a_class_whose_train_images_all_stand_in_test_is_an_error() -> None:
    with pytest.raises(DataError, match=r"No image is left for training in the class\(es\) 'b' \(2\)"):
        deal([0, 1, 2, 3, 4, 3, 4], [0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 2, 1, 0, 0], labels=("a", "b"))


def test_one_content_under_two_labels_is_a_conflict_in_one_split() -> None:
    contents, labels = several(2, 10)
    result = deal([*contents, 0], [*labels, 1])
    (group,) = result.conflicts
    assert result.groups.members(group).tolist() == [0, 20]
    assert result.split[0] == result.split[20] >= 0


def test_a_limit_keeps_each_class_in_proportion_without_copies() -> None:
    contents, labels = several(2, 300)
    labels = np.where(contents < 400, 0, 1)
    result = deal([*contents, 1, 2, 3], [*labels, 0, 0, 0], limit=60)
    assert result.counts.sum(axis=0).tolist() == [40, 20]
    assert result.left_out_by_limit == 543
    assert not result.copies - 3


def test_a_limit_keeps_given_splits_in_proportion() -> None:
    contents, labels = several(2, 70)
    result = deal(contents, labels, [0] * 120 + [2] * 20, limit=70)
    assert result.counts.sum(axis=1).tolist() == [54, 6, 10]


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    contents, labels = several(2, 10)
    assert np.array_equal(deal([*contents, 1], [*labels, 1], limit=21).split, deal([*contents, 1], [*labels, 1]).split)


def test_a_limit_below_the_classes_is_refused() -> None:
    contents, labels = several(10, 10)
    with pytest.raises(DataError, match="limit is 20; 10 classes need at least 30"):
        deal(contents, labels, limit=20)
