from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from transform import augment
from transform.errors import DataError

KEY = tf.constant([7, 1], tf.int64)
NAMES = augment.names()


def batch(count: int = 32, height: int = 12, width: int = 10, channels: int = 3) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8))


def soft(count: int = 32) -> tf.Tensor:
    return tf.one_hot(tf.range(count) % 4, 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_and_total_of_targets_stay(name: str, channels: int) -> None:
    images, targets = tf.function(augment.build([name]))(batch(channels=channels), soft(), KEY)
    assert images.dtype == tf.uint8
    assert images.shape == (32, 12, 10, channels)
    assert np.allclose(tf.reduce_sum(targets, 1), 1)
    assert not np.array_equal(images, batch(channels=channels))


@pytest.mark.parametrize("name", NAMES)
def test_the_key_decides(name: str) -> None:
    apply = tf.function(augment.build([name]))
    first, again, other = (apply(batch(), soft(), key)[0] for key in (KEY, KEY, KEY + 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", NAMES)
def test_size_of_the_batch_need_not_be_known(name: str) -> None:
    spec = [
        tf.TensorSpec([None, 12, 10, 3], tf.uint8),
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([2], tf.int64),
    ]
    images, _ = tf.function(augment.build([name]), input_signature=spec)(batch(5), soft(5), KEY)
    assert images.shape == (5, 12, 10, 3)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"mixup", "cutmix"}))
def test_labels_pass_through_where_images_are_not_mixed(name: str) -> None:
    labels = tf.range(32, dtype=tf.int64)
    assert np.array_equal(augment.build([name])(batch(), labels, KEY)[1], labels)


def test_flip_mirrors_some_and_leaves_the_others() -> None:
    images = batch(64).numpy()
    flipped, _ = augment.flip(tf.constant(images), soft(64), KEY)
    kinds = [
        "same" if np.array_equal(new, old) else "mirrored" if np.array_equal(new, old[:, ::-1]) else "broken"
        for new, old in zip(flipped.numpy(), images, strict=True)
    ]
    assert set(kinds) == {"same", "mirrored"}
    assert 16 < kinds.count("mirrored") < 48


@pytest.mark.parametrize(("name", "mode"), [("shift", "edge"), ("random_crop", "reflect")])
def test_moved_images_are_crops_of_the_padded_ones(name: str, mode: str) -> None:
    images = batch(16).numpy()
    moved, _ = augment.build([name])(tf.constant(images), soft(16), KEY)
    for new, old in zip(moved.numpy(), images, strict=True):
        padded = np.pad(old, [(2, 2), (2, 2), (0, 0)], mode)
        crops = [padded[y : y + 12, x : x + 10] for y in range(5) for x in range(5)]
        assert any(np.array_equal(new, crop) for crop in crops)


def test_rotate_keeps_what_is_the_same_all_round() -> None:
    disc = tf.fill([4, 11, 11, 1], tf.constant(90, tf.uint8))
    assert np.array_equal(augment.rotate(disc, soft(4), KEY)[0], disc)
    point = np.zeros((4, 11, 11, 1), np.uint8)
    point[:, 5, 5] = 255
    turned = augment.rotate(tf.constant(point), soft(4), KEY, degrees=90.0)[0].numpy()
    assert (turned[:, 5, 5, 0] >= 250).all()
    assert (turned.sum(axis=(1, 2, 3)) <= 400).all()


def test_cutout_covers_a_square_with_the_mean() -> None:
    images = tf.concat([tf.zeros([16, 20, 20, 1], tf.uint8), tf.fill([16, 20, 20, 1], tf.constant(200, tf.uint8))], 0)
    covered = augment.cutout(images, soft(32), KEY)[0].numpy() == 100
    sizes = covered.sum(axis=(1, 2, 3))
    assert sizes.min() >= 1 and sizes.max() <= 64
    assert np.array_equal(covered.any(axis=2, keepdims=True) & covered.any(axis=1, keepdims=True), covered)


def test_mixup_blends_images_and_targets_by_the_same_weight() -> None:
    values = np.arange(0, 240, 24, dtype=np.uint8)
    images = tf.constant(np.broadcast_to(values[:, None, None, None], (10, 4, 4, 1)))
    mixed, targets = augment.mixup(images, tf.eye(10), KEY, alpha=1.0)
    expected = targets.numpy() @ values.astype(float)
    assert np.abs(mixed[:, 0, 0, 0].numpy() - expected).max() <= 0.51
    assert (targets.numpy() > 0).sum() == 20


def test_cutmix_weighs_targets_by_the_area() -> None:
    images = tf.constant(np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None, None], (10, 8, 8, 1)))
    mixed, targets = augment.cutmix(images, tf.eye(10), KEY)
    own = (mixed.numpy() == np.arange(10)[:, None, None, None]).mean(axis=(1, 2, 3))
    assert np.allclose(np.diag(targets), own, atol=1e-6)
    assert own.min() < 1


def test_brightness_stays_in_range_and_keeps_flat_images_flat() -> None:
    flat = augment.brightness(tf.fill([8, 6, 6, 3], tf.constant(255, tf.uint8)), soft(8), KEY)[0].numpy()
    assert all(len(set(image.ravel())) == 1 for image in flat)
    assert flat.min() >= 255 * 0.79


def test_the_same_name_in_another_place_draws_the_same() -> None:
    alone, _ = augment.build(["flip"])(batch(), soft(), KEY)
    chained, _ = augment.build(["flip", "shift"])(batch(), soft(), KEY)
    assert np.array_equal(augment.build(["shift"])(alone, soft(), KEY)[0], chained)


def test_no_augmentation_changes_nothing() -> None:
    assert np.array_equal(augment.build([])(batch(), soft(), KEY)[0], batch())


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixing_needs_probabilities(name: str) -> None:
    with pytest.raises(DataError, match=r"targets of type int64 .* expected probabilities"):
        augment.build([name])(batch(), tf.range(32, dtype=tf.int64), KEY)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(DataError, match="Did you mean 'mixup'"):
        augment.build(["flip", "mixpu"])
