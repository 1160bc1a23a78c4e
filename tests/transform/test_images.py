from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from transform import features
from transform.images import decode_and_resize, decode_and_resize_batch
from transform.png import encode_png
from transform.preprocessing import preprocessing_fn

Encode = Callable[..., bytes]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def deflated(pixels: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG", **options)
    return out.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_the_target_size_pass_unchanged(channels: int) -> None:
    pixels = random(9, 7, channels)
    assert np.array_equal(decode_and_resize(deflated(pixels), 9, 7, channels), pixels)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (20, 30), (9, 1)])
def test_resize_is_tensorflows_bilinear_without_antialiasing(height: int, width: int) -> None:
    pixels = random(9, 7, 3)
    expected = tf.image.resize(pixels, [height, width], "bilinear", antialias=False)
    resized = decode_and_resize(deflated(pixels), height, width, 3)
    assert resized.dtype == tf.uint8
    assert np.array_equal(resized, np.rint(expected))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "L"), ("PNG", "LA"), ("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "L"), ("JPEG", "RGB"),
     ("GIF", "L"), ("GIF", "RGB"), ("BMP", "RGB"), ("BMP", "RGBA"), ("BMP", "L")],
)  # fmt: skip
def test_every_format_and_mode_gives_the_wanted_channels(encode: Encode, kind: str, mode: str, channels: int) -> None:
    file = encode(4, kind, (6, 5), mode)
    pixels = decode_and_resize(file, 5, 6, channels)
    assert pixels.shape == (5, 6, channels)
    with Image.open(io.BytesIO(file)) as image:
        expected = np.asarray(image.convert("RGBA").convert("RGB").convert("L" if channels == 1 else "RGB"), float)
    # Decoders differ in the rounding of color conversion; a swapped channel would differ by far more.
    assert np.abs(expected.reshape(5, 6, channels) - pixels.numpy()).mean() < 2


def test_only_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert (decode_and_resize(out.getvalue(), 4, 4, 3).numpy() == 10).all()


def each(files: list[bytes], height: int, width: int, channels: int) -> np.ndarray:
    return np.stack([decode_and_resize(file, height, width, channels) for file in files])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("others", [[], ["PNG"], ["JPEG", "GIF"], ["BMP"]])
def test_a_batch_is_the_same_as_its_images(encode: Encode, channels: int, others: list[str]) -> None:
    stored = list(encode_png(random(4, 9, 7, channels)))
    files = stored + [encode(1, kind, (7, 9)) for kind in others] + [encode(2, kind, (30, 20)) for kind in others]
    batch = tf.function(lambda x: decode_and_resize_batch(x, 9, 7, channels))(tf.constant(files))
    assert np.array_equal(batch, each(files, 9, 7, channels))


def test_stored_files_of_another_encoder_are_not_taken_for_ours() -> None:
    # A gradient makes the encoder choose row filters, which our own files never have.
    ramp = np.arange(9 * 7, dtype=np.uint8).reshape(9, 7, 1) * 3
    files = [deflated(ramp, compress_level=0) for _ in range(2)]
    assert np.array_equal(decode_and_resize_batch(tf.constant(files), 9, 7, 1), [ramp, ramp])
    mixed = [*encode_png(ramp[None]), files[0]]
    assert np.array_equal(decode_and_resize_batch(tf.constant(mixed), 9, 7, 1), [ramp, ramp])


def test_an_empty_batch_is_empty() -> None:
    assert decode_and_resize_batch(tf.constant([], tf.string), 9, 7, 3).shape == (0, 9, 7, 3)


def test_images_larger_than_one_stored_block() -> None:
    pixels = random(1, 150, 160, 3)
    assert np.array_equal(decode_and_resize_batch(tf.constant(list(encode_png(pixels))), 150, 160, 3), pixels)


@pytest.mark.parametrize("broken", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
def test_what_is_no_image_fails(broken: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_and_resize_batch(tf.constant([broken]), 9, 7, 3)


@pytest.mark.parametrize("sparse", [False, True])
def test_preprocessing_takes_columns_as_transform_gives_them(sparse: bool) -> None:
    pixels = random(2, 8, 8, 1)
    image = tf.constant(list(encode_png(pixels)))[:, None]
    label = tf.constant([[3], [0]], tf.int64)
    inputs = {features.IMAGE: image, features.LABEL: label, features.DIGEST: image}
    if sparse:
        inputs[features.IMAGE] = tf.sparse.from_dense(image)
        inputs[features.LABEL] = tf.SparseTensor([[0, 0], [1, 0]], [3, 0], [2, 1])
    outputs = preprocessing_fn(inputs, {"transform": {"size": [8, 8], "channels": 1, "normalize": "unit"}})
    assert set(outputs) == {features.PIXELS, features.LABEL}
    assert np.array_equal(outputs[features.PIXELS], pixels)
    assert outputs[features.LABEL].dtype == tf.int64
    assert outputs[features.LABEL].numpy().tolist() == [3, 0]
