from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.rest.http import BodyError, gunzip


@given(st.binary(max_size=200), st.integers(0, 3))
def test_what_was_packed_is_unpacked(data: bytes, level: int) -> None:
    packed = gzip.compress(data, level)
    assert gunzip(packed, 0) == data
    assert gunzip(packed, max(1, len(data))) == data


def test_several_members_are_one_body() -> None:
    assert gunzip(gzip.compress(b"ab") + gzip.compress(b"cd") + b"\0\0", 4) == b"abcd"


@pytest.mark.parametrize("size", [1001, 50_000_000])
def test_a_bomb_is_refused_before_it_is_unpacked(size: int) -> None:
    bomb = gzip.compress(bytes(size))
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match="larger than the limit of 1000 bytes") as caught:
            gunzip(bomb, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 1_000_000


def test_a_bomb_of_several_members_is_refused() -> None:
    with pytest.raises(BodyError) as caught:
        gunzip(gzip.compress(bytes(600)) * 2, 1000)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "cut off"),
        (b"no gzip", "incorrect header check"),
        (gzip.compress(b"text")[:-1], "cut off"),
        (gzip.compress(b"text")[:-8] + bytes(8), "incorrect data check"),
        (gzip.compress(b"text") + b"garbage", "incorrect header check"),
        (gzip.compress(b"") * 1000, "more than 64 members"),
    ],
    ids=["empty", "no gzip", "cut off", "wrong checksum", "garbage behind it", "many members"],
)
def test_broken_bodies(body: bytes, message: str) -> None:
    with pytest.raises(BodyError, match=message) as caught:
        gunzip(body, 1000)
    assert caught.value.status == 400
