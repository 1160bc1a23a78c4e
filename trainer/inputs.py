"""The input pipeline: files of `tf.Example` in, batches of [0, 1] floats and labels out.

A split is decoded once and kept in memory as uint8 if it fits the budget; every batch is then one gather by
shuffled indices. A larger split stays in its files and is decoded in each epoch, in constant memory. The
order of an epoch depends on the seed and the epoch's number alone, so that a resumed training sees what it
would have seen. Called by the training loop and the tuner.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from trainer.errors import TrainerError
from trainer.shares import WHOLE, Share
from transform import features

Decoder = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Serialized examples, string [N], to pixels uint8 [N, H, W, C] and labels int64 [N]."""

Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Images uint8 [N, H, W, C], targets and a key int64 [2] to changed images and targets."""

Shape = tuple[int, int, int]

# More threads than cores only take time from the training step.
WORKERS = 2
INTERLEAVED_FILES = 4

DECODE_BATCH = 256
EVAL_BATCH = 512
# Encoded examples in the shuffle buffer of a split that is read from its files.
SHUFFLE_EXAMPLES = 10_000
SHUFFLE_BYTES = 64_000_000


@dataclass(frozen=True)
class Split:
    """One split, ready to be read many times.

    Attributes:
        files: the record files, compressed if they end in `.gz`.
        decode: turns records into pixels and labels.
        shape: height, width and channels.
        size: number of examples.
        fingerprint: changes with the content.
        pixels: uint8 [size, H, W, C] if the split is kept in memory, else None.
        labels: int64 [size] if the split is kept in memory, else None.
    """

    files: tuple[str, ...]
    decode: Decoder
    shape: Shape
    size: int
    fingerprint: int
    pixels: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def kept_bytes(self) -> int:
        """Memory of the decoded pixels."""
        return 0 if self.pixels is None else self.pixels.nbytes


def parser(
    preprocess: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]], spec: dict[str, object] | None = None
) -> Decoder:
    """Return a decoder that parses the image and label of examples and hands them to a transform graph.

    Args:
        preprocess: raw features to `features.PIXELS` and `features.LABEL`, as the transform graph does.
        spec: how to parse the raw features; one value per example each if None.
    """
    spec = spec or {
        features.IMAGE: tf.io.FixedLenFeature([1], tf.string),
        features.LABEL: tf.io.FixedLenFeature([1], tf.int64),
    }

    def decode(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = preprocess(tf.io.parse_example(serialized, spec))
        return tf.cast(outputs[features.PIXELS], tf.uint8), tf.reshape(outputs[features.LABEL], [-1])

    return decode


def raw_features(spec: Mapping[str, object]) -> dict[str, object]:
    """Return of a raw feature spec what the transform graph needs: the image and the label."""
    return {name: spec[name] for name in (features.IMAGE, features.LABEL)}


def load(files: Sequence[str], decode: Decoder, shape: Shape, cache_bytes: int) -> Split:
    """Read a split once: decode it into memory if it fits, else count it.

    Args:
        files: paths or patterns of record files.
        decode: turns records into pixels and labels.
        shape: height, width and channels of the pixels.
        cache_bytes: budget for the decoded pixels.

    Returns:
        The split.

    Raises:
        TrainerError: if there are no files or no examples in them.
    """
    paths = tuple(sorted(path for pattern in files for path in tf.io.gfile.glob(pattern)))
    if not paths:
        raise TrainerError(f"no files match {list(files)}; expected the record files of a split with examples")
    kept = _keep(paths, decode, shape, cache_bytes)
    pixels, labels = kept if kept is not None else (None, None)
    if pixels is not None and labels is not None:
        size, fingerprint = len(labels), zlib.crc32(pixels.data, zlib.crc32(labels.data))
    else:
        size = sum(len(batch) for batch in _records(paths).batch(DECODE_BATCH).as_numpy_iterator())
        fingerprint = zlib.crc32(repr([tf.io.gfile.stat(path).length for path in paths]).encode())
    if not size:
        raise TrainerError(f"{len(paths)} file(s) such as {paths[0]} hold no examples; expected at least one")
    return Split(paths, decode, shape, size, fingerprint, pixels, labels)


def first_records(split: Split, count: int) -> list[bytes]:
    """Return the first serialized examples of a split."""
    return list(_records(split.files).take(count).as_numpy_iterator())


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Return the number of full batches; the examples left over change from epoch to epoch."""
    return split.size // _batch(split, batch_size)


def training(
    split: Split,
    batch_size: int,
    epochs: range,
    seed: int,
    augment: Augment | None = None,
    soften: Callable[[tf.Tensor], tf.Tensor] | None = None,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Return the batches of several epochs, one epoch after the other without a gap.

    Args:
        split: the train split.
        batch_size: examples a batch, over all devices, whose number divides it; less only if the split is smaller.
        epochs: numbers of the epochs, from 0; each decides its order and its random augmentations.
        seed: another seed gives other orders and augmentations.
        augment: random changes of a batch.
        soften: turns labels int64 [N] into target probabilities float32 [N, K], before augmentation.
        share: whose part of each batch; all processes together see the batches that one alone would see.

    Returns:
        `steps_per_epoch` batches an epoch: images float32 [N, H, W, C] in [0, 1] and targets. With several devices,
        each batch is as many elements as this process has devices.
    """
    batch_size = _batch(split, batch_size)
    steps = split.size // batch_size

    def finish(images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        targets = soften(labels) if soften is not None else labels
        if augment is not None:
            images, targets = augment(images, targets, key)
        return _unit(images), targets

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.stack([tf.cast(seed, tf.int64), epoch])
        read = _shuffled if split.pixels is None else _gathered
        batches = read(split, batch_size, order, share)
        # Each device changes its images in other ways than its neighbors.
        numbers = tf.range(epoch * steps * share.replicas, (epoch + 1) * steps * share.replicas)
        keys = tf.data.Dataset.from_tensor_slices(share.of(tf.reshape(numbers, [steps, share.replicas])))
        keys = keys.map(lambda number: tf.stack([order[0], number]))
        return tf.data.Dataset.zip((batches.take(steps * share.devices), keys))

    numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    batches = numbers.flat_map(epoch_batches).map(lambda batch, key: (*batch, key))
    return batches.map(finish, num_parallel_calls=WORKERS).prefetch(WORKERS)


def evaluation_steps(split: Split, replicas: int, batch_size: int = EVAL_BATCH) -> int:
    """Return the number of steps in which several devices evaluate a split together."""
    if split.size < replicas:
        raise TrainerError(f"the eval split has {split.size} examples for {replicas} devices; train on fewer devices")
    return -(-split.size // (batch_size * replicas))


def evaluation(split: Split, batch_size: int = EVAL_BATCH, share: Share = WHOLE) -> tf.data.Dataset:
    """Return all examples of a split once, in the order of the files.

    Args:
        split: the eval split.
        batch_size: examples a batch of one device, at most.
        share: whose part; all processes together see every example once in `evaluation_steps`.

    Returns:
        Images float32 [N, H, W, C] in [0, 1] and labels int64 [N]. With several devices it begins again at the end,
        and no batch is empty, which batch normalization doesn't bear.
    """
    if share != WHOLE:
        return _evaluation_share(split, batch_size, share)
    if split.pixels is None:
        batches = _records(split.files).batch(batch_size).map(_decoder(split), num_parallel_calls=WORKERS)
    else:
        indices = tf.data.Dataset.range(split.size).batch(batch_size)
        batches = indices.map(_taker(split))
    return batches.map(lambda images, labels: (_unit(images), labels)).prefetch(WORKERS)


def sample(split: Split, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return some examples of a split as arrays, in the order of the files.

    Args:
        split: where they come from.
        count: how many; all of them if the split is smaller.
        seed: another seed draws others.

    Returns:
        Pixels uint8 [n, H, W, C] and labels int64 [n], with n the smaller of `count` and the split's size.
    """
    drawn = np.random.default_rng(seed).choice(split.size, min(count, split.size), replace=False)
    drawn.sort()
    if split.pixels is not None and split.labels is not None:
        return split.pixels[drawn], split.labels[drawn]
    wanted = np.zeros(split.size, bool)
    wanted[drawn] = True
    pixels = np.empty((len(drawn), *split.shape), np.uint8)
    labels = np.empty(len(drawn), np.int64)
    seen = filled = 0
    batches = _records(split.files).batch(DECODE_BATCH).map(_decoder(split), num_parallel_calls=WORKERS)
    for images, targets in batches.as_numpy_iterator():
        rows = wanted[seen : seen + len(images)]
        end = filled + int(rows.sum())
        pixels[filled:end], labels[filled:end] = images[rows], targets[rows]
        seen, filled = seen + len(images), end
    return pixels, labels


def _batch(split: Split, batch_size: int) -> int:
    return min(batch_size, split.size)


def _unit(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0


def _evaluation_share(split: Split, batch_size: int, share: Share) -> tf.data.Dataset:
    """Return the pieces of a split that one process evaluates, again and again.

    The split is cut into one piece for each step and device. Sizes differ by one at most, the larger ones first.
    """
    pieces = evaluation_steps(split, share.replicas, batch_size) * share.replicas
    size, larger = divmod(split.size, pieces)
    edge = larger * (size + 1)
    source = _records(split.files) if split.pixels is None else tf.data.Dataset.range(split.size)
    cut = source.take(edge).batch(size + 1).concatenate(source.skip(edge).batch(size))

    def is_own(number: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        replica = number % share.replicas
        return (replica >= share.first) & (replica < share.first + share.devices)

    own = cut.enumerate().filter(is_own).map(lambda _, piece: piece)
    batches = own.map(_decoder(split) if split.pixels is None else _taker(split))
    return batches.map(lambda images, labels: (_unit(images), labels)).repeat().prefetch(WORKERS)


def _gathered(split: Split, batch_size: int, order: tf.Tensor, share: Share) -> tf.data.Dataset:
    """Return the batches of one epoch from memory."""
    steps = split.size // batch_size
    indices = tf.random.experimental.stateless_shuffle(tf.range(split.size, dtype=tf.int64), order)
    each = batch_size // share.replicas
    rows = share.of(tf.reshape(indices[: steps * batch_size], [steps, share.replicas, each]))
    return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(rows, [None, each])).map(_taker(split))


def _shuffled(split: Split, batch_size: int, order: tf.Tensor, share: Share) -> tf.data.Dataset:
    """Return the batches of one epoch from the files: files in random order, records through a buffer."""
    encoded_bytes = sum(tf.io.gfile.stat(path).length for path in split.files)
    buffer = min(split.size, SHUFFLE_EXAMPLES, max(batch_size, SHUFFLE_BYTES * split.size // max(1, encoded_bytes)))
    paths = tf.random.experimental.stateless_shuffle(tf.constant(split.files), order)
    files = tf.data.Dataset.from_tensor_slices(paths)
    records = files.interleave(_read, cycle_length=INTERLEAVED_FILES, block_length=16)
    records = records.shuffle(buffer, seed=tf.reduce_sum(order), reshuffle_each_iteration=False)
    batches = records.batch(batch_size, drop_remainder=True)
    if share != WHOLE:
        # Every process reads all records, which is cheap, and decodes its own, which is not.
        pieces = [1, share.replicas, batch_size // share.replicas]
        batches = batches.map(lambda batch: share.of(tf.reshape(batch, pieces))).unbatch()
    return batches.map(_decoder(split), num_parallel_calls=WORKERS)


def _taker(split: Split) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return the gather of a batch; by numpy, since a tensor of the whole split would be a second copy."""
    pixels, labels = split.pixels, split.labels
    assert pixels is not None and labels is not None

    def take(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, targets = tf.numpy_function(
            lambda rows: (pixels[rows], labels[rows]), [indices], [tf.uint8, tf.int64], stateful=False
        )
        return tf.ensure_shape(images, [indices.shape[0], *split.shape]), tf.ensure_shape(targets, indices.shape)

    return take


def _decoder(split: Split) -> Decoder:
    def decode(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = split.decode(serialized)
        return tf.ensure_shape(images, [serialized.shape[0], *split.shape]), labels

    return decode


def _read(path: tf.Tensor) -> tf.data.Dataset:
    # The reader takes the compression as a tensor, so that files of both kinds may stand side by side.
    kind = tf.where(tf.strings.regex_full_match(path, r".*\.gz"), "GZIP", "")
    return tf.data.TFRecordDataset(path, compression_type=kind)


def _records(paths: Sequence[str]) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(list(paths)).flat_map(_read)


def _keep(
    paths: Sequence[str], decode: Decoder, shape: Shape, cache_bytes: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Decode all examples into one array; None as soon as they exceed the budget."""
    room = cache_bytes // int(np.prod(shape))
    # Pages of an empty array take memory only when they are written.
    pixels = np.empty((room, *shape), np.uint8)
    labels: list[np.ndarray] = []
    filled = 0
    batches = _records(paths).batch(DECODE_BATCH).map(decode, num_parallel_calls=WORKERS)
    for images, targets in batches.as_numpy_iterator():
        if filled + len(images) > room:
            return None
        pixels[filled : filled + len(images)] = images
        labels.append(targets)
        filled += len(images)
    return pixels[:filled], np.concatenate(labels) if labels else np.empty(0, np.int64)
