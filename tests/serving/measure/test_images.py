from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.measure import images
from serving.measure.images import ImageBatches


def make(count: int = 10, classes: int = 3, shape: tuple[int, int, int] = (4, 5, 3), batch: int = 4) -> ImageBatches:
    generator = np.random.default_rng(count)
    pixels = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return ImageBatches.of_arrays(pixels, np.arange(count) % classes, batch=batch)


def whole(batches: ImageBatches) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(batches.read())
    return np.concatenate([pixels for pixels, _ in pairs]), np.concatenate([labels for _, labels in pairs])


def test_arrays_come_back_in_batches_as_often_as_asked() -> None:
    batches = make(10)
    assert [len(labels) for _, labels in batches.read()] == [4, 4, 2]
    assert [len(labels) for _, labels in batches.read()] == [4, 4, 2]
    assert (batches.size, batches.shape) == (10, (4, 5, 3))
    assert all(pixels.dtype == np.uint8 and labels.dtype == np.int64 for pixels, labels in batches.read())


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), channels=st.sampled_from([1, 3, 4]))
def test_a_file_gives_back_what_was_saved(tmp_path_factory, count: int, batch: int, channels: int) -> None:
    path = tmp_path_factory.mktemp("images") / "set.npz"
    original = make(count, shape=(2, 3, channels), batch=7)
    assert original.save(path) == path
    loaded = images.load(path, batch=batch)
    assert (loaded.size, loaded.shape) == (count, (2, 3, channels))
    for before, after in zip(whole(original), whole(loaded), strict=True):
        np.testing.assert_array_equal(before, after)
    assert all(len(labels) <= batch for _, labels in loaded.read())


def test_numpy_reads_the_file_without_pickle(tmp_path: Path) -> None:
    path = make().save(tmp_path / "deep" / "set.npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["pixels"].shape == (10, 4, 5, 3)
        assert arrays["labels"].dtype == np.int64


def test_a_file_that_numpy_wrote_is_read(tmp_path: Path) -> None:
    pixels = np.zeros((3, 2, 2, 1), np.uint8)
    np.savez_compressed(tmp_path / "set.npz", pixels=pixels, labels=np.array([0, 1, 2], np.int32))
    loaded = images.load(tmp_path / "set.npz")
    assert whole(loaded)[1].tolist() == [0, 1, 2]


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    assert make(batch=3).save(tmp_path / "a.npz").read_bytes() == make(batch=4).save(tmp_path / "b.npz").read_bytes()


def test_saving_holds_one_batch_and_leaves_no_half_file(tmp_path: Path) -> None:
    def too_few():
        yield np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2, np.int64)

    with pytest.raises(ServingError, match="announced 5 images and gave 2"):
        ImageBatches((2, 2, 1), 5, too_few).save(tmp_path / "set.npz")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ServingError, match="gives more"):
        ImageBatches((2, 2, 1), 1, too_few).save(tmp_path / "set.npz")
    with pytest.raises(ServingError, match=r"expected uint8 \[2, 3, 3, 1\]"):
        ImageBatches((3, 3, 1), 2, too_few).save(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((2, 3, 3, 1), np.float32), np.zeros(2, np.int64), r"float32 \[2, 3, 3, 1\], expected uint8"),
        (np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), r"expected uint8 \[N, H, W, C\]"),
        (np.zeros((2, 3, 0, 1), np.uint8), np.zeros(2, np.int64), "no dimension of 0"),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2), "labels are float64"),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros(3, np.int64), "2 images and 3 labels"),
        (np.zeros((0, 3, 3, 1), np.uint8), np.zeros(0, np.int64), "empty"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, pixels: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ServingError, match=message):
        ImageBatches.of_arrays(pixels, labels)
    np.savez(tmp_path / "set.npz", pixels=pixels, labels=labels)
    with pytest.raises(ServingError, match=message):
        images.load(tmp_path / "set.npz")


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="does not exist"):
        images.load(tmp_path / "none.npz")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(ServingError, match=r"0 bytes.*empty or truncated"):
        images.load(tmp_path / "empty.npz")
    np.savez(tmp_path / "other.npz", pixels=np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(ServingError, match=r"holds pixels.npy; expected the arrays"):
        images.load(tmp_path / "other.npz")
    np.savez(tmp_path / "objects.npz", pixels=np.array([{}], object), labels=np.zeros(1, np.int64))
    with pytest.raises(ServingError, match=r"(Python objects|no plain array)"):
        images.load(tmp_path / "objects.npz")


@given(share=st.floats(0, 0.999))
@settings(max_examples=25, deadline=None)
def test_a_truncated_file_is_refused(tmp_path_factory, share: float) -> None:
    path = make().save(tmp_path_factory.mktemp("cut") / "set.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ServingError, match="truncated"):
        images.load(path)


def test_an_array_that_is_shorter_than_its_header_is_refused(tmp_path: Path) -> None:
    path = make().save(tmp_path / "set.npz")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pixels.npy", members["pixels.npy"][:-7])
        archive.writestr("labels.npy", members["labels.npy"])
    with pytest.raises(ServingError, match=r"593 bytes, expected 600"):
        images.load(path)


def test_a_flipped_bit_is_found_while_reading(tmp_path: Path) -> None:
    path = make().save(tmp_path / "set.npz")
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(ServingError, match="CRC-32"):
        whole(images.load(path))


def test_a_sample_is_seeded_and_even_over_the_labels() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([0] * 80 + [1] * 15 + [2] * 5)
    pixels = generator.integers(0, 256, (100, 2, 2, 1), dtype=np.uint8)
    source = ImageBatches.of_arrays(pixels, labels, batch=9)
    drawn = images.representative(source, 30, seed=4)
    drawn_pixels, drawn_labels = whole(drawn)
    assert np.bincount(drawn_labels).tolist() == [13, 12, 5] or np.bincount(drawn_labels).tolist() == [12, 13, 5]
    again = whole(images.representative(source, 30, seed=4))
    np.testing.assert_array_equal(again[0], drawn_pixels)
    assert not np.array_equal(whole(images.representative(source, 30, seed=5))[0], drawn_pixels)
    known = {(image.tobytes(), int(label)) for image, label in zip(pixels, labels, strict=True)}
    assert {(image.tobytes(), int(label)) for image, label in zip(drawn_pixels, drawn_labels, strict=True)} <= known


def test_a_sample_never_repeats_an_image_and_ends_with_the_set() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    drawn = images.representative(ImageBatches.of_arrays(pixels, np.arange(12) % 2), 50, seed=1)
    assert sorted(whole(drawn)[0].ravel().tolist()) == list(range(12))


def test_impossible_samples_are_refused() -> None:
    with pytest.raises(ServingError, match="0 images was asked"):
        images.representative(make(), 0, seed=0)
    with pytest.raises(ServingError, match="empty"):
        images.representative(ImageBatches((1, 1, 1), 0, lambda: iter(())), 3, seed=0)
