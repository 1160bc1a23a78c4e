"""A model's answers on whole example files, as PredictionLogs and as a table.

In come paths of example files, as Beam elements; out go two files for each in a folder that all workers see. Called by
the BulkInferrer. Nothing here imports TFX, whose import would cost every worker seconds.
"""

from __future__ import annotations

import csv
import io
import os
from typing import Any

import apache_beam as beam
import numpy as np

from pipeline.evaluation.predict import PredictedBatch, predict_file
from serving.saved_model import SessionModel
from transform import features

COLUMNS = ("origin", "digest", "label", "predicted", "probability", "correct")
"""Columns of `predictions-*.csv`."""


class PredictFile(beam.DoFn):
    """Writes the predictions of one example file as PredictionLogs and as CSV, and yields how many they are."""

    def __init__(self, model_path: str, target: str):
        """Initialize.

        Args:
            model_path: directory of the SavedModel.
            target: folder that the results are written to.
        """
        self._model_path = model_path
        self._target = target

    def setup(self) -> None:
        """Load the model once per worker."""
        self._model = SessionModel.load(self._model_path)

    def teardown(self) -> None:
        """Free the model's session."""
        self._model.close()

    def process(self, path: str) -> Any:
        """Predict one file."""
        import tensorflow as tf

        name = os.path.basename(path).removesuffix(".gz")
        columns = {features.LABEL_NAME: tf.string, features.DIGEST: tf.string, features.ORIGIN: tf.string}
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        done = 0
        logs = os.path.join(self._target, f"prediction_logs-{name}.gz")
        with tf.io.TFRecordWriter(logs, "GZIP") as records:
            for batch in predict_file(self._model, path, columns):
                for row in range(len(batch.serialized)):
                    records.write(_prediction_log(batch, row))
                    writer.writerow(_table_row(batch, row))
                done += len(batch.serialized)
        with tf.io.gfile.GFile(os.path.join(self._target, f"predictions-{name}.csv"), "w") as file:
            file.write(table.getvalue())
        yield done


def _table_row(batch: PredictedBatch, row: int) -> list[Any]:
    """Return one row of the table, in the order of `COLUMNS`."""
    actual = batch.columns[features.LABEL_NAME][row].decode("utf-8", "replace")
    predicted = batch.outputs["label"][row].decode("utf-8", "replace")
    return [
        batch.columns[features.ORIGIN][row].decode("utf-8", "replace"),
        batch.columns[features.DIGEST][row].decode("ascii"),
        actual,
        predicted,
        f"{batch.outputs['probabilities'][row].max():.6f}",
        int(actual == predicted),
    ]


def _prediction_log(batch: PredictedBatch, row: int) -> bytes:
    """Return one serialized PredictionLog of the signature `predict_examples`."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request, response = log.predict_log.request, log.predict_log.response
    request.model_spec.signature_name = "predict_examples"
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([batch.serialized[row]]))
    for name, values in batch.outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(values[row : row + 1])))
    return bytes(log.SerializeToString(deterministic=True))
