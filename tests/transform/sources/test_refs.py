from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform.sources.refs import NumberColumn, PathColumn, printable


@given(st.lists(st.binary(max_size=20)))
def test_paths_of_any_bytes_come_back(names: list[bytes]) -> None:
    paths = [os.fsdecode(name) for name in names]
    column = pickle.loads(pickle.dumps(PathColumn(paths)))
    assert list(column) == paths
    assert column[1:] == paths[1:]
    if paths:
        assert column[-1] == paths[-1]


def test_numbers_count_within_each_part() -> None:
    column = NumberColumn([("train", 2), ("test", 1)])
    assert list(column) == ["train/0", "train/1", "test/0"]
    assert column[-1] == "test/0"
    for index in (3, -4):
        with pytest.raises(IndexError):
            column[index]


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("a b/ä.png", "a b/ä.png"),
        ("two\nlines.png", "two\\nlines.png"),
        (os.fsdecode(b"\xff.png"), "\\udcff.png"),
        ("esc\x1b[31m", "esc\\x1b[31m"),
    ],
)
def test_printable_names_are_one_line_of_utf8(ref: str, expected: str) -> None:
    assert printable(ref) == expected
    printable(ref).encode("utf-8")
