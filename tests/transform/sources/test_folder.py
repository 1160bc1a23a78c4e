from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from transform.sources.base import Unreadable, content_digest
from transform.sources.folder import FolderSource
from transform.sources.stat_cache import StatCache

Tree = Callable[[dict[str, bytes]], Path]
FILES = {"a/1.png": b"one", "a/2.png": b"two", "b/1.png": b"three"}


def fingerprint(root: Path) -> str:
    return FolderSource(str(root)).fingerprint()


def test_files_are_read_and_digested_by_index(tree: Tree) -> None:
    source = pickle.loads(pickle.dumps(FolderSource(str(tree(FILES)))))
    assert list(source.read(np.array([2, 0]))) == [b"three", b"one"]
    assert source.digests(np.array([1]))[0].tobytes() == content_digest(b"two")
    assert not source.trusted_encoding


def test_what_cannot_be_read_has_a_reason(tree: Tree) -> None:
    root = tree(FILES)
    source = FolderSource(str(root))
    source.listing()
    (root / "a" / "1.png").unlink()
    gone, large = source.read(np.array([0, 2]), max_bytes=4)
    assert gone == Unreadable("cannot be read: No such file or directory")
    assert large == Unreadable("5 bytes, more than data.max_image_bytes (4)")
    assert list(source.read(np.array([2]), max_bytes=5)) == [b"three"]


def test_fingerprint_ignores_place_names_and_times(tree: Tree, tmp_path: Path) -> None:
    root = tree(FILES)
    before = fingerprint(root)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    (moved / "a" / "1.png").rename(moved / "a" / "renamed.png")
    os.utime(moved / "a" / "2.png", (1, 1))
    assert fingerprint(moved) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a" / "1.png").write_bytes(b"ONE"),
        lambda root: (root / "a" / "1.png").unlink(),
        lambda root: (root / "a" / "3.png").write_bytes(b"one"),
        lambda root: (root / "a" / "1.png").rename(root / "b" / "9.png"),
        lambda root: (root / "a").rename(root / "c"),
    ],
    ids=["content", "removed", "copy", "relabeled", "class renamed"],
)
def test_fingerprint_sees_content_labels_and_counts(tree: Tree, change: Callable[[Path], object]) -> None:
    root = tree(FILES)
    before = fingerprint(root)
    change(root)
    assert fingerprint(root) != before


def test_fingerprint_sees_the_given_split(tree: Tree) -> None:
    root = tree({f"{split}/{name}": content for split in ("train", "test") for name, content in FILES.items()})
    before = fingerprint(root)
    (root / "test").rename(root / "val")
    assert fingerprint(root) != before


def test_fingerprint_is_the_same_with_a_cache(tree: Tree, tmp_path: Path) -> None:
    root = tree(FILES)
    cache = StatCache(tmp_path / "digests")
    assert FolderSource(str(root)).fingerprint(cache) == fingerprint(root)
    assert cache.hashed == 3
