from __future__ import annotations

import os
from pathlib import Path

import pytest

from transform.sources.base import content_digest
from transform.sources.stat_cache import StatCache

OLD = 1_600_000_000


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of now count as settled, since a test cannot set their change time."""
    monkeypatch.setattr("transform.sources.stat_cache._SETTLED_NS", -(10**18))


@pytest.mark.usefixtures("settled")
def test_unchanged_files_are_read_once(tmp_path: Path) -> None:
    file, cache_file = tmp_path / "a.png", tmp_path / "cache" / "digests"
    file.write_bytes(b"content")
    first = StatCache(cache_file)
    assert first.digest(str(file)) == content_digest(b"content")
    first.save()
    second = StatCache(cache_file)
    assert second.digest(str(file)) == content_digest(b"content")
    assert (first.hashed, second.hashed) == (1, 0)


@pytest.mark.usefixtures("settled")
def test_a_change_is_seen_even_where_size_and_time_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    os.utime(file, (OLD, OLD))
    cache = StatCache(tmp_path / "digests")
    before = cache.digest(str(file))
    file.unlink()
    file.write_bytes(b"two")
    os.utime(file, (OLD, OLD))
    assert cache.digest(str(file)) == content_digest(b"two") != before


def test_files_written_just_now_are_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"content")
    cache = StatCache(tmp_path / "digests")
    cache.digest(str(file))
    cache.digest(str(file))
    assert cache.hashed == 2


@pytest.mark.usefixtures("settled")
def test_entries_that_nobody_asked_for_are_dropped(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    cache = StatCache(tmp_path / "digests")
    cache.digests([str(tmp_path / "a"), str(tmp_path / "b")])
    cache.save()
    cache = StatCache(tmp_path / "digests")
    cache.digest(str(tmp_path / "a"))
    cache.save()
    cache = StatCache(tmp_path / "digests")
    cache.digests([str(tmp_path / "a"), str(tmp_path / "b")])
    assert cache.hashed == 1


@pytest.mark.parametrize("damage", [b"", b"other", b"slipway file digests 1\nshort"])
def test_a_damaged_cache_counts_as_empty(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "digests").write_bytes(damage)
    assert StatCache(tmp_path / "digests").digest(str(tmp_path / "a")) == content_digest(b"a")


def test_what_cannot_be_read_is_zeros(tmp_path: Path) -> None:
    assert StatCache().digests([str(tmp_path / "missing")]) == [bytes(16)]
