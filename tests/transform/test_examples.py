from __future__ import annotations

import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from transform import features
from transform.examples import ExampleSerializer

sizes = st.integers(0, 2**40)


@given(
    st.binary(max_size=300), sizes, sizes, st.integers(0, 4), st.integers(0, 1),
    st.binary(min_size=16, max_size=16),
    st.text(max_size=200).filter(lambda text: text.isprintable()),
)  # fmt: skip
def test_bytes_are_those_of_the_message_class(
    image: bytes, height: int, width: int, channels: int, label: int, digest: bytes, origin: str
) -> None:
    kind = ("png", height, width, channels, label)
    serialized = ExampleSerializer(("a", "größe")).serialize(image, kind, digest, origin)
    example = tf.train.Example.FromString(serialized)
    strings = {
        features.IMAGE: image,
        features.FORMAT: b"png",
        features.LABEL_NAME: ("a", "größe")[label].encode(),
        features.DIGEST: digest.hex().encode(),
        features.ORIGIN: origin.encode(),
    }
    integers = {
        features.HEIGHT: height,
        features.WIDTH: width,
        features.CHANNELS: channels,
        features.LABEL: label,
    }
    assert set(example.features.feature) == set(strings) | set(integers)
    for name, value in strings.items():
        assert list(example.features.feature[name].bytes_list.value) == [value]
    for name, number in integers.items():
        assert list(example.features.feature[name].int64_list.value) == [number]


def test_large_images_keep_their_bytes() -> None:
    image = bytes(range(256)) * 2000
    serialized = ExampleSerializer(("a",)).serialize(image, ("png", 1, 1, 1, 0), bytes(16), "x")
    assert tf.train.Example.FromString(serialized).features.feature[features.IMAGE].bytes_list.value[0] == image
