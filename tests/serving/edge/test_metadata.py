"""Metadata in `.tflite` files: what is written is read back, and the network stays what it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.edge.metadata import Description, attach_metadata, read_metadata
from serving.edge.tflite_file import read_tflite
from serving.errors import BundleError
from tests.serving.edge.tiny import LABELS, pixels

FULL = Description(
    name="pets",
    labels=LABELS,
    description="Tells cats, dogs and owls apart — größtenteils.",
    version="7",
    author="The shelter",
    license="Apache-2.0",
)


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize(
    "description",
    [
        FULL,
        Description("m", ("ä b", "日本"), channels=1),
        Description("m", LABELS, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), minimum=-1.0, maximum=2.0),
    ],
)
def test_round_trip(tflite_files: dict[str, Path], kind: str, description: Description) -> None:
    data = tflite_files[kind].read_bytes()
    described = attach_metadata(data, description)
    assert read_metadata(described) == description
    assert read_metadata(data) is None
    assert read_tflite(described).signatures == read_tflite(data).signatures
    assert read_tflite(described).packed == {"labels.txt": "".join(f"{x}\n" for x in description.labels).encode()}
    assert attach_metadata(data, description) == described, "the same model gives the same bytes"


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_the_network_is_untouched(tflite_files: dict[str, Path], kind: str) -> None:
    import tensorflow as tf

    data = tflite_files[kind].read_bytes()
    described = attach_metadata(data, FULL)
    # At a multiple of 16: weights stay aligned as the converter left them.
    assert described.index(data) % 16 == 0
    batch = np.stack([pixels(seed) for seed in range(5)])
    image = batch if kind == "int8" else batch.astype(np.float32) / 255
    before, after = (
        tf.lite.Interpreter(model_content=content).get_signature_runner("predict")(image=image)["probabilities"]
        for content in (data, described)
    )
    assert before.dtype == after.dtype and np.array_equal(before, after)
    assert len(np.unique(before)) > 5, "the answers differ from image to image"


def test_metadata_is_attached_once(tflite_files: dict[str, Path]) -> None:
    described = attach_metadata(tflite_files["int8"].read_bytes(), FULL)
    with pytest.raises(BundleError, match="has TFLite metadata already"):
        attach_metadata(described, FULL)


def test_a_truncated_file_gets_no_metadata(tflite_files: dict[str, Path]) -> None:
    data = tflite_files["int8"].read_bytes()
    with pytest.raises(BundleError, match="truncated or damaged"):
        attach_metadata(data[: len(data) // 2], FULL)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ()}, "there are no labels"),
        ({"labels": ("a", "b\nc")}, "cannot stand on a line of its own"),
        ({"labels": ("a", " ")}, "cannot stand on a line of its own"),
        ({"labels": ("a", "b", "a")}, r"\['a'\] stand twice"),
        ({"channels": 4}, r"4 channels; expected 1 \(gray\) or 3"),
        ({"mean": (0.0, 0.0)}, "do not fit 3 channels"),
        ({"std": (0.0,)}, "std is 0"),
        ({"mean": (float("nan"),)}, "not finite"),
    ],
)
def test_descriptions_that_readers_would_misread(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        dataclasses.replace(FULL, **changes)
