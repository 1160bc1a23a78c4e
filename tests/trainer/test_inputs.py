"""The input pipeline: what is read, in which order, and that memory is no matter of correctness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conftest import example
from trainer import inputs
from trainer.errors import TrainerError
from trainer.shares import Share
from transform import augment, features
from transform.images import decode_and_resize_batch

SHAPE = (8, 8, 1)
PLENTY = 10_000_000


def preprocess(raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    encoded = tf.reshape(raw[features.IMAGE], [-1])
    return {features.PIXELS: decode_and_resize_batch(encoded, *SHAPE), features.LABEL: raw[features.LABEL]}


DECODE = inputs.parser(preprocess)


@pytest.fixture
def files(write_records: Callable[..., str], digit_examples: list[bytes]) -> list[str]:
    return [
        write_records(digit_examples[start : start + 100], f"Split-train/data_tfrecord-{number:05d}-of-00003.gz")
        for number, start in enumerate((0, 100, 200))
    ]


@pytest.fixture(params=["in memory", "from the files"])
def split(request: pytest.FixtureRequest, files: list[str]) -> inputs.Split:
    loaded = inputs.load(files, DECODE, SHAPE, PLENTY if request.param == "in memory" else 0)
    assert (loaded.pixels is not None) == (request.param == "in memory")
    return loaded


def batches_of(dataset: tf.data.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(dataset.as_numpy_iterator())


def test_evaluation_gives_all_examples_in_order(split: inputs.Split, digits: tuple[np.ndarray, np.ndarray]) -> None:
    batches = batches_of(inputs.evaluation(split, 128))
    assert [len(labels) for _, labels in batches] == [128, 128, 44]
    images = np.concatenate([images for images, _ in batches])
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, digits[0][:300] / np.float32(255))
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), digits[1][:300])


def test_training_shows_every_example_at_most_once_an_epoch_with_its_label(
    split: inputs.Split, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    assert inputs.steps_per_epoch(split, 64) == 4
    labels_of = {image.tobytes(): label for image, label in zip(digits[0][:300], digits[1], strict=False)}
    batches = batches_of(inputs.training(split, 64, range(2), seed=1))
    assert [images.shape for images, _ in batches] == [(64, 8, 8, 1)] * 8
    orders = []
    for epoch in (batches[:4], batches[4:]):
        images = np.concatenate([images for images, _ in epoch])
        seen = [np.round(image * 255).astype(np.uint8).tobytes() for image in images]
        assert len(set(seen)) == 256
        assert [labels_of[one] for one in seen] == list(np.concatenate([labels for _, labels in epoch]))
        orders.append(seen)
    assert orders[0] != orders[1]
    assert set(orders[0]) != set(orders[1]), "always the same examples are left over"


def test_an_epoch_is_the_same_whether_or_not_the_ones_before_it_were_run(split: inputs.Split) -> None:
    flips = augment.build(["flip", "shift"])
    whole = batches_of(inputs.training(split, 128, range(3), 1, flips))
    resumed = batches_of(inputs.training(split, 128, range(2, 3), 1, flips))
    assert len(whole) == 6
    for (images, labels), (again, labels_again) in zip(whole[4:], resumed, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(labels, labels_again)
    other = batches_of(inputs.training(split, 128, range(1), 2, flips))
    assert not np.array_equal(whole[0][1], other[0][1])


def test_targets_are_softened_before_they_are_blended(split: inputs.Split) -> None:
    soften = lambda labels: tf.one_hot(labels, 10)  # noqa: E731
    (images, targets), *_ = batches_of(inputs.training(split, 32, range(1), 1, augment.build(["mixup"]), soften))
    assert targets.shape == (32, 10)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    assert (np.count_nonzero(targets, axis=1) == 2).any()
    assert images.min() >= 0 and images.max() <= 1


def test_a_split_smaller_than_a_batch_is_one_batch(files: list[str], write_records: Callable[..., str]) -> None:
    few = write_records([example(tf.io.encode_png(np.zeros((3, 3, 1), np.uint8)).numpy(), 4)] * 5, "few.gz")
    loaded = inputs.load([few], DECODE, SHAPE, PLENTY)
    assert inputs.steps_per_epoch(loaded, 128) == 1
    ((images, labels),) = batches_of(inputs.training(loaded, 128, range(1), 0))
    assert images.shape == (5, 8, 8, 1)
    assert list(labels) == [4] * 5


def test_what_does_not_fit_the_budget_stays_in_the_files(files: list[str]) -> None:
    enough = 300 * 64
    assert inputs.load(files, DECODE, SHAPE, enough).pixels is not None
    too_large = inputs.load(files, DECODE, SHAPE, enough - 1)
    assert too_large.pixels is None and too_large.size == 300 and too_large.kept_bytes == 0


def test_the_fingerprint_follows_the_content(
    files: list[str], write_records: Callable[..., str], digit_examples: list[bytes]
) -> None:
    def fingerprint(paths: list[str]) -> int:
        return inputs.load(paths, DECODE, SHAPE, PLENTY).fingerprint

    copy = write_records(digit_examples[:100], "elsewhere.gz")
    assert fingerprint(files[:1]) == fingerprint([copy])
    assert fingerprint(files[:1]) != fingerprint(files[1:2])


def test_patterns_and_uncompressed_files_are_read(files: list[str], tmp_path, digit_examples: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "Split-train" / "plain")) as writer:
        writer.write(digit_examples[0])
    assert inputs.load([f"{tmp_path}/Split-train/*"], DECODE, SHAPE, PLENTY).size == 301


def test_no_files_and_no_examples_are_refused(tmp_path, write_records: Callable[..., str]) -> None:
    with pytest.raises(TrainerError, match="no files match"):
        inputs.load([f"{tmp_path}/*"], DECODE, SHAPE, PLENTY)
    with pytest.raises(TrainerError, match="hold no examples"):
        inputs.load([write_records([], "empty.gz")], DECODE, SHAPE, PLENTY)


def test_a_sample_is_drawn_by_its_seed_and_keeps_labels_with_their_images(
    split: inputs.Split, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels, labels = inputs.sample(split, 40, seed=3)
    assert (pixels.dtype, pixels.shape, labels.shape) == (np.uint8, (40, *SHAPE), (40,))
    rows = [int(np.flatnonzero((digits[0][:300] == image).all(axis=(1, 2, 3)))[0]) for image in pixels]
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(labels, digits[1][rows])
    np.testing.assert_array_equal(pixels, inputs.sample(split, 40, seed=3)[0])
    assert not np.array_equal(pixels, inputs.sample(split, 40, seed=4)[0])


def test_a_sample_of_more_than_there_is_is_all_of_it(
    split: inputs.Split, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    pixels, labels = inputs.sample(split, 1_000_000, seed=3)
    np.testing.assert_array_equal(pixels, digits[0][:300])
    np.testing.assert_array_equal(labels, digits[1][:300])


@pytest.mark.parametrize(("replicas", "local"), [(4, 2), (3, 3)])
def test_processes_together_see_the_batches_of_one(split: inputs.Split, replicas: int, local: int) -> None:
    whole = batches_of(inputs.training(split, 60, range(2), 1))
    shares = [Share(replicas, first, local) for first in range(0, replicas, local)]
    parts = [batches_of(inputs.training(split, 60, range(2), 1, share=share)) for share in shares]
    assert [len(part) for part in parts] == [len(whole) * local] * len(shares)
    for step, (images, labels) in enumerate(whole):
        pieces = [piece for part in parts for piece in part[step * local : (step + 1) * local]]
        assert {len(piece[1]) for piece in pieces} == {60 // replicas}
        np.testing.assert_array_equal(np.concatenate([piece[0] for piece in pieces]), images)
        np.testing.assert_array_equal(np.concatenate([piece[1] for piece in pieces]), labels)


def test_devices_change_their_images_in_different_ways(split: inputs.Split) -> None:
    keys: list[tuple[int, int]] = []

    def remember(images: tf.Tensor, targets: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key = tf.ensure_shape(tf.numpy_function(lambda value: keys.append(tuple(value)) or value, [key], tf.int64), [2])
        return images + tf.cast(0 * key[0], tf.uint8), targets

    for share in (Share(2, 0, 1), Share(2, 1, 1)):
        batches_of(inputs.training(split, 60, range(2), 9, remember, share=share))
    assert sorted(keys) == [(9, number) for number in range(2 * 2 * 5)]


@pytest.mark.parametrize(("replicas", "local", "batch_size"), [(2, 1, 60), (4, 2, 512), (7, 7, 7)])
def test_processes_together_evaluate_every_example_once(
    split: inputs.Split, replicas: int, local: int, batch_size: int, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    steps = inputs.evaluation_steps(split, replicas, batch_size)
    seen = []
    for first in range(0, replicas, local):
        share = Share(replicas, first, local)
        endless = inputs.evaluation(split, batch_size, share)
        batches = batches_of(endless.take(2 * steps * local))
        assert all(0 < len(labels) <= batch_size for _, labels in batches)
        once, again = batches[: steps * local], batches[steps * local :]
        for (images, _), (same, _) in zip(once, again, strict=True):
            np.testing.assert_array_equal(images, same)
        seen += [image.tobytes() for images, _ in once for image in images]
    wanted = [image.tobytes() for image in digits[0][:300] / np.float32(255)]
    assert sorted(seen) == sorted(wanted)


def test_more_devices_than_examples_are_refused(files: list[str]) -> None:
    split = inputs.load(files, DECODE, SHAPE, PLENTY)
    with pytest.raises(TrainerError, match="300 examples for 301 devices; train on fewer"):
        inputs.evaluation_steps(split, 301)
