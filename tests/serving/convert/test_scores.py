from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.convert.scores import kind_of, probe_images, softmax
from serving.errors import ConversionError

LOGITS = arrays.arrays(np.float32, (8, 5), elements=st.floats(-30, 30, width=32))


@given(LOGITS)
def test_a_softmax_is_taken_for_probabilities(logits: np.ndarray) -> None:
    rows = softmax(logits)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert kind_of(rows, "the model").kind == "probabilities"


@given(LOGITS.filter(lambda rows: rows.min() < -0.01 or rows.max() > 1.01))
def test_anything_outside_of_0_and_1_is_taken_for_logits(logits: np.ndarray) -> None:
    assert kind_of(logits, "the model").kind == "logits"


def test_the_evidence_is_in_words() -> None:
    logits = np.tile(np.array([[-2.0, 5.0, 1.0]], np.float32), (8, 1))
    assert kind_of(logits, "m").evidence == "8 probe images have scores from -2 to 5, whose rows sum to between 4 and 4"


def test_quantized_probabilities_may_miss_1_by_their_steps() -> None:
    rows = np.full((8, 10), 26 / 256, np.float32)
    with pytest.raises(ConversionError):
        kind_of(rows, "m")
    assert kind_of(rows, "m", 1 / 256).kind == "probabilities"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.full((8, 3), 0.9, np.float32), "neither logits nor probabilities: 8 probe images .* between 2.7 and 2.7"),
        (np.array([[0.2, np.nan]], np.float32), "NaN or infinity"),
        (np.zeros((8, 1), np.float32), r"shape \[8, 1\]"),
        (np.zeros((8, 2, 2), np.float32), r"shape \[8, 2, 2\]"),
    ],
)
def test_what_is_neither(scores: np.ndarray, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        kind_of(scores, "m")


def test_probe_images_span_black_to_white_and_are_always_the_same() -> None:
    images = probe_images((4, 5, 3))
    assert images.shape == (8, 4, 5, 3) and images.dtype == np.uint8
    assert images[0].max() == 0 and images[1].min() == 255
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8
    np.testing.assert_array_equal(images, probe_images((4, 5, 3)))
