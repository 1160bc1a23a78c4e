"""BulkInferrer: the answers of a blessed model on a whole split, as PredictionLogs and as a table.

TFX's executor sends every example through Beam one by one. This one predicts file by file in batches, and writes
the PredictLogs that TFX writes (read by TFX's own tools) beside `predictions.csv`, which a person can open:
digest, origin, label, prediction, probability. A refused model gets no predictions.
"""

from __future__ import annotations

import glob
import os
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.evaluation.bulk import PredictFile
from transform.progress import report


class BulkInferrerSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"split": parameter(str), FINGERPRINT: parameter(str)}
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS = {"inference_result": component_spec.ChannelParameter(type=standard_artifacts.InferenceResult)}


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
