"""Evaluator: TFMA's configuration, thresholds and output, computed from counts in one light Beam pass.

TFMA's default pipeline takes 7 CPU seconds before it has computed anything, and two minutes for per-class metrics
on slices of 10,000 examples, since every example passes every metric in Python. Here a Beam element is a file: it
is predicted in batches, and what is summed are the counts of `pipeline.evaluation.counts`. What is written is what
TFMA writes (a test compares the values with TFMA's), and TFMA's validator decides.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.components.artifacts import NO_BASELINE
from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.evaluation.counts import load_counts, save_counts, sum_counts
from pipeline.evaluation.eval_config import BASELINE, CANDIDATE, without_baseline
from pipeline.evaluation.predict import CountPredictions
from pipeline.evaluation.tfma_output import metrics_of_slice, write_evaluation
from pipeline.evaluation.verdict import judge, write_verdict
from transform.progress import report


class EvaluatorSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {
        "eval_config": parameter(str),
        "split": parameter(str),
        "top_k": parameter(int),
        FINGERPRINT: parameter(str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Counts, writes the evaluation, and blesses the candidate or not."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Judge the candidate, against the baseline where there is one."""
        from google.protobuf import json_format
        from tensorflow_model_analysis.proto import config_pb2

        config = json_format.Parse(exec_properties["eval_config"], config_pb2.EvalConfig())
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        candidate = artifact_utils.get_single_instance(input_dict["model"])
        found = input_dict.get("baseline_model") or []
        baselines = [model for model in found if model.get_int_custom_property(NO_BASELINE) != 1]
        baselines, remark = of_the_same_classes(baselines, candidate)
        models = {CANDIDATE: path_utils.serving_model_path(candidate.uri)}
        if baselines:
            models[BASELINE] = path_utils.serving_model_path(baselines[0].uri)
        else:
            config = without_baseline(config)
        files = sorted(glob.glob(os.path.join(artifact_utils.get_split_uri([examples], exec_properties["split"]), "*")))
        slice_features = [key for spec in config.slicing_specs for key in spec.feature_keys]
        report(0, len(files), "files")
        evaluation = artifact_utils.get_single_instance(output_dict["evaluation"])
        self._count(files, models, slice_features, exec_properties["top_k"], evaluation.uri)
        counts = load_counts(evaluation.uri)
        report(len(files), len(files), "files")
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        with open(os.path.join(examples.uri, "labels.txt"), encoding="utf-8") as file:
            labels = file.read().split("\n")[: counts[CANDIDATE, ()].confusion.shape[0]]
        validation = write_evaluation(counts, config, evaluation.uri, labels, models)
        metrics = {key: metrics_of_slice(counts, key) for _, key in counts}
        verdict = judge(config, metrics, validation.validation_ok)
        if remark:
            verdict = dataclasses.replace(verdict, sentence=f"{verdict.sentence}; {remark}")
        write_verdict(verdict, evaluation.uri)
        _bless(blessing, candidate, baselines, verdict.passed)
        write_verdict(verdict, blessing.uri)

    def _count(
        self, files: list[str], models: dict[str, str], slice_features: list[str], top_k: int, target: str
    ) -> None:
        """Write the counts per model and slice over all files into the folder `target`."""
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "Predict" >> beam.ParDo(CountPredictions(models, slice_features, top_k))
                | "Add" >> beam.CombinePerKey(sum_counts)
                | "Gather" >> beam.combiners.ToList()
                | "Write" >> beam.Map(save_counts, target)
            )


def of_the_same_classes(baselines: list[types.Artifact], candidate: types.Artifact) -> tuple[list[types.Artifact], str]:
    """Leave out a baseline that knows other classes, whose answers mean something else; return it and a remark.

    Args:
        baselines: the model to compare with, if there is one.
        candidate: the model that is judged.
    """
    if not baselines or _classes(baselines[0]) == _classes(candidate):
        return baselines, ""
    return [], "not compared with the last blessed model, which knows other classes"


def _classes(model: types.Artifact) -> list[str] | None:
    """Return the class names that lie beside an exported model; None where none do."""
    path = os.path.join(path_utils.serving_model_path(model.uri), "assets.extra", "labels.txt")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return file.read().split("\n")


def _bless(blessing: types.Artifact, candidate: types.Artifact, baselines: list[types.Artifact], passed: bool) -> None:
    """Mark the blessing artifact as TFX's Evaluator does, so that TFX's readers understand it."""
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, candidate.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, candidate.id)
    if baselines:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baselines[0].uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baselines[0].id)
    name = constants.BLESSED_FILE_NAME if passed else constants.NOT_BLESSED_FILE_NAME
    value = constants.BLESSED_VALUE if passed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    with open(os.path.join(blessing.uri, name), "w", encoding="utf-8"):
        pass


class Evaluator(base_beam_component.BaseBeamComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel,
        eval_config: str,
        split: str,
        top_k: int,
        fingerprint: str,
    ):
        """Initialize.

        Args:
            examples: the examples of all splits.
            model: the candidate.
            baseline_model: the model to compare with; may resolve to nothing.
            eval_config: JSON of a TFMA EvalConfig that names both models.
            split: the split that is judged.
            top_k: for the top-k accuracy.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            EvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                eval_config=eval_config,
                split=split,
                top_k=top_k,
                fingerprint=fingerprint,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
