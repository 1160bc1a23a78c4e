"""BulkInferrer: the answers of a blessed model on a whole split, as PredictionLogs and as a table.

TFX's executor sends every example through Beam one by one. This one predicts file by file in batches, and writes
the PredictLogs that TFX writes (read by TFX's own tools) beside `predictions.csv`, which a person can open:
digest, origin, label, prediction, probability. A refused model gets no predictions.
"""

from __future__ import annotations

import csv
import glob
import io
import os
from typing import Any

import apache_beam as beam
import numpy as np
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.evaluation.predict import PredictedBatch, predict_file
from serving.saved_model import SessionModel
from transform import features
from transform.progress import report

COLUMNS = ("origin", "digest", "label", "predicted", "probability", "correct")
"""Columns of `predictions-*.csv`."""


class BulkInferrerSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"split": parameter(str), FINGERPRINT: parameter(str)}
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS = {"inference_result": component_spec.ChannelParameter(type=standard_artifacts.InferenceResult)}


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
    return bytes(log.SerializeToString())


class Executor(base_beam_executor.BaseBeamExecutor):
    """Predicts every file of a split."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Predict the split, unless the model was refused."""
        if not model_utils.is_model_blessed(artifact_utils.get_single_instance(input_dict["model_blessing"])):
            return
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        result = artifact_utils.get_single_instance(output_dict["inference_result"])
        files = sorted(glob.glob(os.path.join(artifact_utils.get_split_uri([examples], exec_properties["split"]), "*")))
        report(0, len(files), "files")
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "Predict" >> beam.ParDo(PredictFile(path_utils.serving_model_path(model.uri), result.uri))
            )
        report(len(files), len(files), "files")


class BulkInferrer(base_beam_component.BaseBeamComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = BulkInferrerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        split: str,
        fingerprint: str,
    ):
        """Initialize.

        Args:
            examples: the examples of all splits.
            model: the model to ask.
            model_blessing: the Evaluator's verdict on it.
            split: the split that is predicted.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            BulkInferrerSpec(
                examples=examples,
                model=model,
                model_blessing=model_blessing,
                split=split,
                fingerprint=fingerprint,
                inference_result=types.Channel(type=standard_artifacts.InferenceResult),
            )
        )
