from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from transform.check import ChunkCheck, check_chunk, merge_checks
from transform.features import FORMATS
from transform.settings import DataSettings
from transform.sources.base import content_digest
from transform.sources.folder import FolderSource

Tree = Callable[[dict[str, bytes]], Path]
Encode = Callable[..., bytes]


def check(root: Path, **options: int) -> tuple[FolderSource, ChunkCheck]:
    source = FolderSource(str(root))
    settings = DataSettings(source=str(root), **options)  # type: ignore[arg-type]
    return source, check_chunk(source, np.arange(len(source.listing())), settings)


def test_readable_images_are_described(tree: Tree, encode: Encode) -> None:
    files = {
        "a/1.png": encode(1, "PNG", (6, 5), "LA"),
        "a/2.jpg": encode(1, "JPEG", (8, 7)),
        "a/3.gif": encode(1, "GIF", (9, 4)),
        "a/4.bmp": encode(1, "BMP", (3, 2)),
        "b/5.webp": encode(1, "WEBP", (11, 10)),
        "b/6.tif": encode(1, "TIFF", (2, 1), "L"),
        "b/7.txt.png": encode(1, "JPEG", (4, 4), "L"),
    }
    _, found = check(tree(files))
    assert not found.unreadable
    assert [FORMATS[number] for number in found.formats] == [
        "png",
        "jpeg",
        "gif",
        "bmp",
        "png",
        "png",
        "jpeg",
    ]
    assert found.sizes.tolist() == [
        [5, 6, 2],
        [7, 8, 3],
        [4, 9, 3],
        [2, 3, 3],
        [10, 11, 3],
        [1, 2, 1],
        [4, 4, 1],
    ]
    assert found.reencoded.tolist() == [False] * 4 + [True, True, False]
    assert [row.tobytes() for row in found.digests] == [content_digest(content) for content in files.values()]


def test_hostile_files_are_unreadable_with_a_reason_and_the_others_stay(tree: Tree, encode: Encode) -> None:
    good = encode(1, "PNG", (20, 20))
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0) + bytes(4)
    files = {
        "a/00 good.png": good,
        "a/01 empty.png": b"",
        "a/02 html.jpg": b"<html>not found</html>",
        "a/03 cut.png": good[: len(good) // 2],
        "a/04 cut.jpg": encode(1, "JPEG", (64, 64))[:900],
        "a/05 bomb.png": bomb,
        "a/06 large.png": encode(2, "PNG", (60, 60)),
        "a/07 header.png": good[:10],
        "a/08 photo.heic": b"\0\0\0\x18ftypheic" + bytes(50),
        "b/09 good\n.png": encode(3),
    }
    _, found = check(tree(files), max_image_bytes=5000)
    assert [index for index, _ in found.unreadable] == [1, 2, 3, 4, 5, 6, 7, 8]
    reasons = [reason for _, reason in found.unreadable]
    for reason, expected in zip(
        reasons,
        ["empty file", "not an image (it starts with b'<html>no')", "the PNG decoder refuses it",
         "the JPEG decoder", "60000 x 60000 pixels, more than data.max_pixels (50,000,000)",
         "more than data.max_image_bytes (5,000)", "cut short within the header", "a HEIC photo"],
        strict=True,
    ):  # fmt: skip
        assert expected in reason
    assert (found.formats >= 0).tolist() == [True] + [False] * 8 + [True]


def test_a_batch_that_fails_costs_only_the_image_that_fails(
    tree: Tree, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{'ab'[i % 2]}/{i:02}.png": encode(i, "PNG", (12, 12)) for i in range(10)}
    files["a/04.png"] = files["a/04.png"][:-40]
    monkeypatch.setattr("transform.check._BATCH_IMAGES", 4)
    source, found = check(tree(files))
    assert [source.listing().refs[index] for index, _ in found.unreadable] == ["a/04.png"]


def test_chunks_merge_into_the_order_of_the_listing(tree: Tree, encode: Encode, two_classes: dict[str, bytes]) -> None:
    two_classes["cats/9.png"] = b""
    source, whole = check(tree(two_classes))
    settings = DataSettings(source="x")
    parts = [check_chunk(source, indices, settings) for indices in (np.arange(7, 20), np.arange(7))]
    merged = merge_checks(parts)
    for name in ("indices", "digests", "formats", "reencoded", "sizes", "stored_bytes"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name))
    assert merged.unreadable == whole.unreadable
