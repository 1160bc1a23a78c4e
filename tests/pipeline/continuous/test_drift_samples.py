"""What is read from a request log: every way in which clients send images, and nothing of other versions."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.continuous.drift.image_properties import of_pixels
from pipeline.continuous.drift.samples import Sample, sample_requests
from serving.server.request_log_records import Entry, to_record
from serving.wire.tfrecord import frame
from transform import features
from transform.settings import ImageSettings

COLOR = ImageSettings(size=(8, 8))
LABELS = ("cat", "dog")
ANSWER = {"probabilities": np.array([[0.25, 0.75]], np.float32)}
Write = Callable[..., None]


def png(color: tuple[int, int, int] = (200, 100, 50), size: tuple[int, int] = (30, 20)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


def example(encoded: bytes) -> bytes:
    import tensorflow as tf

    feature = {features.IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))}
    return bytes(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def append(
        inputs: dict[str, Any], outputs: dict[str, Any] = ANSWER, kind: str = "Predict", version: int = 3,
        seconds: int = 1000, model: str = "m",
    ) -> None:  # fmt: skip
        entry = Entry(model, version, kind, "serving_default", inputs, outputs, seconds, 0)
        with (tmp_path / "requests.tfrecord").open("ab") as file:
            file.write(frame(to_record(entry, 0.5)))

    return append


def sampled(folder: Path, most: int = 100, since: float = 0) -> Sample:
    return sample_requests(folder, "m", 3, LABELS, COLOR, since, most)


def test_encoded_images_with_their_answers(write, tmp_path):
    write(
        {"image_bytes": np.array([png(), png((0, 0, 0))], object)},
        {"probabilities": np.array([[0.9, 0.1], [0.4, 0.6]])},
    )
    sample = sampled(tmp_path)
    assert sample.predictions == [("cat", pytest.approx(0.9)), ("dog", pytest.approx(0.6))]
    assert sample.files[0] == {"height": 20.0, "width": 30.0, "aspect": 1.5}
    bright, black = sample.pixels
    assert bright["brightness"] == pytest.approx(350 / 3 / 255, abs=1e-3)
    assert bright["contrast"] > 0.2 and bright["sharpness"] == 0.0
    assert [bright[f"share of {name}"] for name in ("red", "green", "blue")] == pytest.approx(
        [4 / 7, 2 / 7, 1 / 7], abs=0.01
    )
    assert black["brightness"] == 0 and black["share of red"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_that_the_client_scaled_have_pixels_and_no_file(write, tmp_path, kind):
    pixels = np.full((2, 8, 8, 3), 0.5) if kind is np.float32 else np.full((2, 8, 8, 3), 127)
    write({"image": pixels.astype(kind)})
    sample = sampled(tmp_path)
    assert [row["brightness"] for row in sample.pixels] == pytest.approx([0.498, 0.498], abs=1e-3)
    assert sample.files == []


def test_examples_and_classify(write, tmp_path):
    write({"examples": np.array([example(png())], object)})
    answer = {"classes": np.array([[b"cat", b"dog"]], object), "scores": np.array([[0.3, 0.7]], np.float32)}
    write({"inputs": np.array([example(png())], object)}, answer, kind="Classify")
    sample = sampled(tmp_path)
    assert len(sample.files) == 2 and sample.unreadable == 0
    assert sample.predictions == [("dog", 0.75), ("dog", pytest.approx(0.7))]


def test_what_cannot_be_decoded_is_counted(write, tmp_path):
    write({"image_bytes": np.array([b"", b"no image", png()[:60], png()], object)})
    write({"examples": np.array([b"\xff\xff", example(b"")], object)})
    write({"unknown": np.array([1.0])})
    sample = sampled(tmp_path)
    assert (len(sample.pixels), sample.unreadable) == (1, 5)


def test_other_models_versions_and_days_are_passed_over(write, tmp_path):
    image = {"image_bytes": np.array([png()], object)}
    write(image, model="other")
    write(image, version=2)
    write(image, seconds=499)
    write(image, seconds=500)
    assert len(sampled(tmp_path, since=500).pixels) == 1


def test_of_many_requests_a_part_is_looked_at(write, tmp_path):
    for _ in range(25):
        write({"image_bytes": np.array([png(size=(4, 4))], object)})
    assert len(sampled(tmp_path, most=10).pixels) == 9


def test_a_checkerboard_is_sharp_and_a_gray_image_has_no_colors():
    board = np.indices((8, 8)).sum(axis=0) % 2 * 255
    found = of_pixels(board.astype(np.uint8)[..., None]).pixels
    assert found == {"brightness": 0.5, "contrast": 0.5, "sharpness": 1.0}
