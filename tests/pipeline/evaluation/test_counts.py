"""Counts merge by addition, survive a file, and refuse predictions that make no sense."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.counts import SliceCounts, count, load_counts, save_counts


def predictions(examples: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels [N] and softmax probabilities [N, K] that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(examples, classes)) * 2
    logits[np.arange(examples), labels] += 1.5
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)


def as_dict(counts: SliceCounts) -> dict:
    return {name: np.asarray(value) for name, value in vars(counts).items()}


@settings(max_examples=40, deadline=None)
@given(examples=st.integers(1, 200), classes=st.integers(2, 12), cut=st.floats(0, 1), seed=st.integers(0, 1000))
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(examples, classes, cut, seed):
    labels, p = predictions(examples, classes, seed)
    at = int(cut * examples)
    parts = count(labels[:at], p[:at], 3) + count(labels[at:], p[at:], 3)
    whole = count(labels, p, 3)
    for name, value in as_dict(whole).items():
        np.testing.assert_array_equal(as_dict(parts)[name], value, err_msg=name)  # whichever worker counts what
    assert whole.examples == examples


def test_counts_survive_a_file(tmp_path):
    labels, p = predictions(50, 4, 1)
    whole = count(labels, p, 2)
    some = count(labels[:10], p[:10], 2)
    stored = {("candidate", ()): whole, ("candidate", (("label_name", "ä b"),)): some}
    save_counts(stored.items(), str(tmp_path))
    loaded = load_counts(str(tmp_path))
    assert loaded.keys() == stored.keys()
    for key, value in stored.items():
        for name, array in as_dict(value).items():
            np.testing.assert_array_equal(as_dict(loaded[key])[name], array)


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        ([0, 1], np.ones((3, 2)) / 2, "2 labels and probabilities of shape"),
        ([0, 2], np.ones((2, 2)) / 2, "range from 0 to 2"),
        ([-1, 0], np.ones((2, 2)) / 2, "range from -1 to 0"),
        ([0, 1], np.array([[0.5, np.nan], [0.5, 0.5]]), "NaN or infinity"),
        ([0, 1], np.ones(2), "shape"),
    ],
)
def test_senseless_predictions_are_refused(labels, probabilities, words):
    with pytest.raises(ValueError, match=words):
        count(np.array(labels), probabilities, 1)
