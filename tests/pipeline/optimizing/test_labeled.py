"""Labeled images without a run: drawn by a seed, decoded to the model's size, labeled in the model's order."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.optimizing.labeled import TEST, TRAIN, read_images
from transform.errors import DataError


def arrays(images) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = zip(*images.read(), strict=True)
    return np.concatenate(pixels), np.concatenate(labels)


def test_images_have_the_size_and_the_order_of_the_model(shapes):
    images = read_images(str(shapes), (12, 10, 3), 30, 5, TEST, ["square", "circle", "cross", "star"])
    pixels, labels = arrays(images)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (30, 12, 10, 3))
    plain = arrays(read_images(str(shapes), (12, 10, 3), 30, 5, TEST))[1]
    names = ["circle", "cross", "square"]
    assert [names[label] for label in plain] == [["square", "circle", "cross", "star"][label] for label in labels]
    assert set(labels) == {0, 1, 2}


def test_the_seed_draws(shapes):
    first, again, other = (arrays(read_images(str(shapes), (8, 8, 1), 20, seed, TEST))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_split_of_a_source_that_is_split_is_kept_to(shapes, tmp_path):
    for split, name in (("train", "circle"), ("train", "cross"), ("test", "cross")):
        folder = tmp_path / "data" / split / name
        folder.mkdir(parents=True)
        for file in sorted((shapes / name).iterdir())[: 4 if split == "train" else 3]:
            (folder / file.name).write_bytes(file.read_bytes())
    source = str(tmp_path / "data")
    assert read_images(source, (8, 8, 3), 100, 1, TEST).size == 3
    assert read_images(source, (8, 8, 3), 100, 1, TRAIN).size == 8


def test_built_in_names_are_sources_too():
    assert read_images("digits", (8, 8, 1), 50, 1, TEST).size == 50


def test_what_cannot_be_decoded_is_passed_over(shapes, tmp_path):
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "data" / "b").mkdir()
    good = next((shapes / "circle").iterdir())
    (tmp_path / "data" / "b" / good.name).write_bytes(good.read_bytes())
    assert read_images(str(tmp_path / "data"), (8, 8, 3), 10, 1, TEST).size == 1


def test_nothing_readable_other_classes_and_no_source_are_refused(shapes, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(ConfigError, match="none of 2 images can be read"):
        read_images(str(tmp_path / "data"), (8, 8, 3), 10, 1, TEST)
    with pytest.raises(ConfigError, match="circle, cross, which the model doesn't know"):
        read_images(str(shapes), (8, 8, 3), 10, 1, TEST, ["square", "star"])
    with pytest.raises(DataError, match="neither a built-in name nor a folder"):
        read_images("nowhere", (8, 8, 3), 10, 1, TEST)
