from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from transform.errors import DataError
from transform.sources.base import Listing
from transform.sources.scan import natural_key, scan_folder

Tree = Callable[[dict[str, bytes]], Path]


def rows(listing: Listing) -> list[tuple[str, str, int]]:
    return [
        (ref, listing.labels[label], int(split))
        for ref, label, split in zip(listing.refs, listing.label_ids, listing.given_split, strict=True)
    ]


def test_a_folder_per_class_at_any_depth(tree: Tree) -> None:
    listing = scan_folder(str(tree({"dogs/1.png": b"", "cats/2.JPG": b"", "cats/deep/er/3.jpeg": b""})))
    assert rows(listing) == [
        ("cats/2.JPG", "cats", -1),
        ("cats/deep/er/3.jpeg", "cats", -1),
        ("dogs/1.png", "dogs", -1),
    ]


def test_classes_are_in_natural_order(tree: Tree) -> None:
    names = ["10", "9", "b", "A", "1"]
    assert scan_folder(str(tree({f"{name}/x.png": b"" for name in names}))).labels == (
        "1",
        "9",
        "10",
        "A",
        "b",
    )


def test_natural_key_compares_anything_with_anything() -> None:
    names = ["", "1", "a1", "a10", "a2", "²", "1a", "٣"]
    assert sorted(names, key=natural_key) == sorted(reversed(names), key=natural_key)
    assert sorted(["a10", "a2", "a1"], key=natural_key) == ["a1", "a2", "a10"]


def test_what_is_passed_over_is_counted(tree: Tree) -> None:
    root = tree(
        {
            "cats/1.png": b"",
            "cats/.hidden.png": b"",
            "cats/._1.png": b"",
            "cats/Thumbs.db": b"",
            ".git/1.png": b"",
            "dogs/1.png": b"",
            "docs/read.txt": b"",
            "top.png": b"",
        }
    )
    os.mkfifo(root / "dogs" / "pipe.png")
    listing = scan_folder(str(root))
    assert len(listing) == 2
    assert listing.ignored == {
        "hidden": 3,
        "outside of a class folder": 1,
        "not an image by its extension": 2,
        "class folder without images": 1,
        "not a regular file": 1,
    }


@pytest.mark.parametrize("held_out", ["val", "eval", "validation", "valid", "Val"])
def test_split_folders_are_told_by_their_names(tree: Tree, held_out: str) -> None:
    root = tree({f"{split}/{label}/1.png": b"" for split in ("train", held_out, "test") for label in "ab"})
    assert rows(scan_folder(str(root))) == [
        ("train/a/1.png", "a", 0),
        ("train/b/1.png", "b", 0),
        (f"{held_out}/a/1.png", "a", 1),
        (f"{held_out}/b/1.png", "b", 1),
        ("test/a/1.png", "a", 2),
        ("test/b/1.png", "b", 2),
    ]


def test_a_class_may_be_called_train(tree: Tree) -> None:
    listing = scan_folder(str(tree({"train/1.png": b"", "bus/1.png": b"", "test/1.png": b""})))
    assert listing.labels == ("bus", "test", "train")
    assert set(listing.given_split) == {-1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["train/a/1.png", "train/b/1.png", "val/c/1.png"],
            r"Only the eval split .* 'c'; a model cannot learn",
        ),
        (["train/a/1.png", "train/b/1.png", "test/A/1.png"], r"Only the test split .* 'A'"),
        (["train/1.png", "test/2.png"], r"holds no class folders"),
        (["train/a/1.png", "test/a/1.png", "extra/a/1.png"], r"both split folders .* \('extra'\)"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "eval/a/1.png"], r"are both the eval split"),
        (["only/1.png"], r"one class with images, 'only'; expected at least two"),
        (["1.png", "2.png"], r"no class folder with images"),
        (["a\nb/1.png", "c/1.png"], r"line break or another control character"),
        (["e\u0301/1.png", "\u00e9/1.png"], r"different Unicode spellings"),
    ],
)
def test_layouts_that_cannot_be_meant_are_refused(tree: Tree, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        scan_folder(str(tree(dict.fromkeys(files, b""))))


def test_a_class_name_that_is_not_utf8_is_refused(tree: Tree) -> None:
    root = tree({"a/1.png": b""})
    try:
        os.mkdir(os.path.join(os.fsencode(root), b"\xff"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"udcff' is not valid UTF-8"):
        scan_folder(str(root))


def test_file_names_may_hold_anything(tree: Tree) -> None:
    names = ["with space.png", "ünï.png", "new\nline.png", "quote'\".png"]
    listing = scan_folder(str(tree({f"{label}/{name}": b"" for label in "ab" for name in names})))
    assert sorted(os.path.basename(ref) for ref in listing.refs) == sorted(names * 2)


def test_links_inside_the_root_are_files_like_others(tree: Tree) -> None:
    root = tree({"a/1.png": b"", "b/1.png": b""})
    (root / "b" / "2.png").symlink_to(root / "a" / "1.png")
    assert "b/2.png" in scan_folder(str(root)).refs


def test_links_that_leave_the_root_are_refused(tree: Tree, tmp_path: Path) -> None:
    root = tree({"a/1.png": b"", "b/1.png": b""})
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "b" / "2.png").symlink_to("../../secret.png")
    with pytest.raises(DataError, match=r"b/2.png' is a link to .*secret.png', outside of the data folder"):
        scan_folder(str(root))


def test_a_folder_beside_the_root_whose_name_starts_alike_is_outside(tree: Tree, tmp_path: Path) -> None:
    root = tree({"a/1.png": b"", "b/1.png": b""})
    (tmp_path / "data2").mkdir()
    (tmp_path / "data2" / "x.png").write_bytes(b"x")
    (root / "b" / "2.png").symlink_to(tmp_path / "data2" / "x.png")
    with pytest.raises(DataError, match="outside of the data folder"):
        scan_folder(str(root))


def test_linked_folders_do_not_loop(tree: Tree) -> None:
    root = tree({"a/1.png": b"", "b/1.png": b""})
    (root / "a" / "again").symlink_to(root)
    with pytest.raises(DataError, match="would count twice"):
        scan_folder(str(root))


def test_the_root_itself_may_be_a_link(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree({"a/1.png": b"", "b/1.png": b""}))
    assert len(scan_folder(str(tmp_path / "link"))) == 2
