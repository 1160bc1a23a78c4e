"""Predictions of SavedModels on example files, as a Beam transform over whole files.

In come paths of example files, out come predictions batch by batch (`predictions`) or counts per model and slice
(`CountPredictions`). A file is one Beam element: per-example overhead of Beam would cost more than the model.
Models are loaded as TensorFlow Serving loads them. Called by the Evaluator and the BulkInferrer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from pipeline.evaluation.counts import SliceCounts, SliceKey, count
from serving.saved_model import SessionModel
from transform import features

BATCH = 256
"""Examples per call: large enough to drown the fixed cost of a call, small enough for large images."""


@dataclass(frozen=True)
class PredictedBatch:
    """Examples of one batch with what a model answered."""

    serialized: list[bytes]
    """The examples, N of them."""
    columns: dict[str, np.ndarray]
    """Features asked for: int64 or object (bytes), [N] each."""
    outputs: dict[str, np.ndarray]
    """Outputs of the signature `predict_examples`, first dimension N."""


def example_batches(path: str, columns: Mapping[str, Any]) -> Iterator[tuple[list[bytes], dict[str, np.ndarray]]]:
    """Yield the serialized examples of a file in batches, with some of their features.

    Args:
        path: a gzipped TFRecord file of `tf.Example`s.
        columns: features to parse, by name, with their dtype; each holds one value per example.
    """
    import tensorflow as tf

    spec = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in columns.items()}
    dataset = tf.data.TFRecordDataset([path], compression_type="GZIP", buffer_size=1 << 20).batch(BATCH)
    for batch in dataset:
        parsed = tf.io.parse_example(batch, spec)
        yield list(batch.numpy()), {name: value.numpy() for name, value in parsed.items()}


def predict_file(model: SessionModel, path: str, columns: Mapping[str, Any]) -> Iterator[PredictedBatch]:
    """Yield a model's answers on an example file, batch by batch."""
    for serialized, values in example_batches(path, columns):
        outputs = model.run("predict_examples", {"examples": np.array(serialized, object)})
        yield PredictedBatch(serialized, values, outputs)


class CountPredictions(beam.DoFn):
    """Predicts the examples of a file with every model and yields ((model, slice), counts)."""

    def __init__(self, models: Mapping[str, str], slice_features: Sequence[str], top_k: int):
        """Initialize.

        Args:
            models: directory of the SavedModel by model name.
            slice_features: features whose values make slices.
            top_k: for the top-k accuracy.
        """
        self._paths = dict(models)
        self._slice_features = list(slice_features)
        self._top_k = top_k
        self._models: dict[str, SessionModel] = {}

    def setup(self) -> None:
        """Load the models once per worker."""
        self._models = {name: SessionModel.load(path) for name, path in self._paths.items()}

    def teardown(self) -> None:
        """Free the models' sessions."""
        for model in self._models.values():
            model.close()

    def process(self, path: str) -> Iterator[tuple[tuple[str, SliceKey], SliceCounts]]:
        """Yield the counts of one file."""
        import tensorflow as tf

        columns = {features.LABEL: tf.int64, **{name: tf.string for name in self._slice_features}}
        totals: dict[tuple[str, SliceKey], SliceCounts] = {}
        for serialized, values in example_batches(path, columns):
            inputs = {"examples": np.array(serialized, object)}
            for name, model in self._models.items():
                probabilities = model.run("predict_examples", inputs)["probabilities"]
                for slice_key, rows in self._slices(values, len(serialized)):
                    counts = count(values[features.LABEL][rows], probabilities[rows], self._top_k)
                    key = (name, slice_key)
                    totals[key] = totals[key] + counts if key in totals else counts
        yield from totals.items()

    def _slices(self, values: dict[str, np.ndarray], examples: int) -> Iterator[tuple[SliceKey, np.ndarray]]:
        """Yield the whole batch and each slice of it, as row numbers."""
        yield (), np.arange(examples)
        for feature in self._slice_features:
            for value in np.unique(values[feature]):
                yield ((feature, value.decode("utf-8", "replace")),), np.flatnonzero(values[feature] == value)
