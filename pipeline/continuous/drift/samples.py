"""Samples of images with the model's answers: from a request log, and from the data that the model was trained on.

Called by `pipeline.continuous.drift.report`. Both samples are made of the same numbers, so that they can be compared.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.continuous.drift.image_properties import Properties, of_file, of_pixels
from transform import features
from transform.settings import ImageSettings

Prediction = tuple[str, float]
"""Name of the most probable class, and its probability."""

_BATCH = 64


@dataclass
class Sample:
    """Images and answers of one side.

    Attributes:
        pixels: properties of the pixels, a row per image.
        files: properties of the encoded images, a row per image that came encoded.
        predictions: the model's answers.
        unreadable: images that can't be decoded.
    """

    pixels: list[dict[str, float]] = field(default_factory=list)
    files: list[dict[str, float]] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    unreadable: int = 0

    def add(self, properties: Properties | None) -> None:
        """Add an image."""
        if properties is None:
            self.unreadable += 1
            return
        self.pixels.append(properties.pixels)
        if properties.file:
            self.files.append(properties.file)


def sample_requests(
    log: Path, model: str, version: int, labels: Sequence[str], settings: ImageSettings, since: float, most: int
) -> Sample:
    """Return a sample of what a version was asked and answered.

    Args:
        log: directory of the model server's request log.
        model: name of the model.
        version: its number.
        labels: its classes, in the order of its outputs.
        settings: the section `transform`.
        since: Unix time of the oldest request.
        most: about how many images; of more, every n-th request is taken.
    """
    total = sum(_images_in(record) for record in _records(log, model, version, since))
    stride = max(1, -(-total // most))
    sample = Sample()
    for record in itertools.islice(_records(log, model, version, since), 0, None, stride):
        _add_request(sample, record, labels, settings)
    return sample


def _records(log: Path, model: str, version: int, since: float) -> Iterator[Any]:
    from serving.server.request_log_records import read_log

    for record in read_log(log, model):
        metadata = record.log_metadata
        if metadata.model_spec.version.value == version and metadata.timestamp_secs >= since:
            yield record


def _images_in(record: Any) -> int:
    """Return how many images a request holds, without reading them."""
    kind = record.WhichOneof("log_type")
    request = getattr(record, kind).request
    if kind != "predict_log":
        return max(1, len(request.input.example_list.examples))
    shapes = ([dim.size for dim in proto.tensor_shape.dim] for proto in request.inputs.values())
    return max((shape[0] for shape in shapes if shape), default=1)


def _add_request(sample: Sample, record: Any, labels: Sequence[str], settings: ImageSettings) -> None:
    kind = record.WhichOneof("log_type")
    body = getattr(record, kind)
    if kind == "predict_log":
        from serving.wire.tensors import read_tensor

        for name, proto in body.request.inputs.items():
            for properties in _of_input(name, read_tensor(proto), settings):
                sample.add(properties)
        outputs = {name: read_tensor(proto) for name, proto in body.response.outputs.items() if name == "probabilities"}
        for row in outputs.get("probabilities", ()):
            best = int(np.argmax(row))
            sample.predictions.append((labels[best] if best < len(labels) else str(best), float(row[best])))
        return
    for example in body.request.input.example_list.examples:
        sample.add(of_file(_image_of(example), settings))
    if kind == "classify_log":
        for one in body.response.result.classifications:
            first = max(one.classes, key=lambda entry: entry.score, default=None)
            if first is not None:
                sample.predictions.append((first.label, float(first.score)))


def _of_input(name: str, values: np.ndarray, settings: ImageSettings) -> Iterator[Properties | None]:
    """Yield the properties of the images in one input of a signature of `trainer.export`."""
    if name == "image_bytes":
        yield from (of_file(bytes(value), settings) for value in values.ravel())
    elif name == "examples":
        yield from (of_file(_image_of(bytes(value)), settings) for value in values.ravel())
    elif name == "image" and values.ndim == 4:
        scaled = values if values.dtype == np.uint8 else np.clip(np.nan_to_num(values) * 255.0, 0, 255).astype(np.uint8)
        yield from (of_pixels(image) for image in scaled)


def _image_of(serialized: bytes) -> bytes:
    """Return the encoded image in a serialized `tf.Example`; nothing if it holds none."""
    import tensorflow as tf

    try:
        example = tf.train.Example.FromString(serialized)
    except Exception:  # protobuf's DecodeError, whose place differs between its versions
        return b""
    values = example.features.feature[features.IMAGE].bytes_list.value
    return bytes(values[0]) if values else b""


def sample_training(examples: Path, split: str, settings: ImageSettings, most: int) -> Sample:
    """Return a sample of the images that a model was trained on.

    Args:
        examples: folder of the Examples artifact.
        split: name of the split.
        settings: the section `transform`.
        most: how many images; the first ones are a random sample, as they stand in the order of a hash.
    """
    sample = Sample()
    for encoded in _encoded(examples, split, most):
        sample.add(of_file(encoded, settings))
    return sample


def held_out_predictions(examples: Path, split: str, model: Path, most: int) -> list[Prediction]:
    """Return what a model answers to examples that it has not learned from, where it is as sure as with new ones.

    Args:
        examples: folder of the Examples artifact.
        split: name of the split.
        model: folder of the published version.
        most: how many images.
    """
    from serving.classifier import Classifier

    encoded = list(_encoded(examples, split, most))
    with Classifier.open(model) as classifier:
        answers = classifier.predict(encoded, top=1, batch_size=_BATCH)
    return [(str(a.label), float(a.probability)) for a in answers if a.label is not None and a.probability is not None]


def _encoded(examples: Path, split: str, most: int) -> Iterator[bytes]:
    from transform.datasets import raw_dataset

    files = sorted(glob.glob(os.path.join(glob.escape(str(examples)), f"Split-{split}", "*.gz")))
    batches = raw_dataset(files, _BATCH, (features.IMAGE,)).as_numpy_iterator() if files else iter(())
    images = itertools.chain.from_iterable(batch[features.IMAGE] for batch in batches)
    yield from itertools.islice(images, most)
