"""Writing an evaluation the way TFMA does, so that `tfma.load_eval_result` and its viewers read it.

In come counts per model and slice, out go `metrics`, `plots`, `validations` and `eval_config.json` in a folder.
Thresholds are checked by TFMA's own validator. Called at the end of the Evaluator's Beam pipeline.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.counts import SliceCounts, SliceKey
from pipeline.evaluation.eval_config import BASELINE, CANDIDATE
from pipeline.evaluation.metrics import overall_metrics, per_class_metrics, reliability

if TYPE_CHECKING:
    from tensorflow_model_analysis.proto import config_pb2, validation_result_pb2

Counts = Mapping[tuple[str, SliceKey], SliceCounts]
"""Counts by model name and slice."""


def write_evaluation(
    counts: Counts,
    config: config_pb2.EvalConfig,
    output_dir: str,
    labels: list[str],
    model_locations: dict[str, str],
) -> validation_result_pb2.ValidationResult:
    """Write metrics, plots, validation and config of an evaluation.

    Args:
        counts: counts of each model on each slice; every slice of the baseline also has the candidate.
        config: EvalConfig; without a baseline already reduced by `without_baseline`.
        output_dir: the evaluation artifact's folder.
        labels: class names by index.
        model_locations: path of each model by name, for TFMA's display.

    Returns:
        TFMA's validation result, which is also written.
    """
    from tensorflow_model_analysis.evaluators import metrics_validator
    from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as tfma_writer

    slices = sorted({key for _, key in counts})
    per_slice = {key: metrics_of_slice(counts, key) for key in slices}
    gated = any(spec.per_slice_thresholds for spec in config.metrics_specs)
    combine = tfma_writer.CombineValidations(config, rubber_stamp=not gated)  # no gate: every model passes
    accumulator = combine.create_accumulator()
    for item in per_slice.items():
        accumulator = combine.add_input(accumulator, metrics_validator.validate_metrics(item, config))
    validation = combine.extract_output(accumulator)
    plots = [(key, _plots_of_slice(counts, key)) for key in slices]
    _write_records(
        os.path.join(output_dir, "metrics-00000-of-00001.tfrecord"),
        (tfma_writer.convert_slice_metrics_to_proto(item, []) for item in per_slice.items()),
    )
    _write_records(
        os.path.join(output_dir, "plots-00000-of-00001.tfrecord"),
        (tfma_writer.convert_slice_plots_to_proto(item, []) for item in plots),
    )
    _write_records(os.path.join(output_dir, "validations.tfrecord"), [validation])
    _write_eval_run(config, output_dir, model_locations)
    _write_summary(counts, output_dir, labels)
    return validation


def metrics_of_slice(counts: Counts, slice_key: SliceKey) -> dict[Any, float]:
    """Return every metric of a slice by TFMA's key: both models, per class, and the differences."""
    from tensorflow_model_analysis.metrics import metric_types

    result: dict[Any, float] = {}
    for model in (CANDIDATE, BASELINE):
        model_counts = counts.get((model, slice_key))
        if model_counts is None:
            continue
        for name, value in overall_metrics(model_counts).items():
            result[metric_types.MetricKey(name, model_name=model, example_weighted=None)] = value
        for name, values in per_class_metrics(model_counts).items():
            for class_id, value in enumerate(values):
                sub_key = metric_types.SubKey(class_id=class_id)
                key = metric_types.MetricKey(name, model_name=model, sub_key=sub_key, example_weighted=None)
                result[key] = float(value)
    if (BASELINE, slice_key) in counts:
        own = [key for key in result if key.model_name == CANDIDATE]
        for key in own:
            result[key.make_diff_key()] = result[key] - result[key.make_baseline_key(BASELINE)]
    return result


def _plots_of_slice(counts: Counts, slice_key: SliceKey) -> dict[Any, Any]:
    """Return the confusion matrix and the calibration histogram of each model on a slice.

    Under TFMA's two default names, which it merges into one message: its loader keeps one message per class only.
    """
    from tensorflow_model_analysis.metrics import metric_types
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2

    plots: dict[Any, Any] = {}
    for model in (CANDIDATE, BASELINE):
        model_counts = counts.get((model, slice_key))
        if model_counts is None:
            continue
        matrix = metrics_for_slice_pb2.MultiClassConfusionMatrixAtThresholds()
        at = matrix.matrices.add(threshold=0.0)
        for actual, row in enumerate(model_counts.confusion):
            for predicted in row.nonzero()[0]:
                at.entries.add(
                    actual_class_id=actual,
                    predicted_class_id=int(predicted),
                    num_weighted_examples=float(row[predicted]),
                )
        plots[metric_types.PlotKey("confusion_matrix_plot", model_name=model, example_weighted=None)] = matrix
        buckets = metrics_for_slice_pb2.CalibrationHistogramBuckets()
        width = 1.0 / len(model_counts.seen)
        for index, seen in enumerate(model_counts.seen):
            bucket = buckets.buckets.add(
                lower_threshold_inclusive=index * width, upper_threshold_exclusive=(index + 1) * width
            )
            bucket.num_weighted_examples.value = float(seen)
            bucket.total_weighted_label.value = float(model_counts.correct[index])
            bucket.total_weighted_refined_prediction.value = float(model_counts.confidence_sum[index])
        plots[metric_types.PlotKey("calibration_plot", model_name=model, example_weighted=None)] = buckets
    return plots


def _write_records(path: str, messages: Iterable[Any]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(path) as writer:
        for message in messages:
            writer.write(message.SerializeToString())


def _write_eval_run(config: config_pb2.EvalConfig, output_dir: str, model_locations: dict[str, str]) -> None:
    """Write `eval_config.json`, from which TFMA's loader learns what was evaluated."""
    import tensorflow as tf
    from google.protobuf import json_format
    from tensorflow_model_analysis import version
    from tensorflow_model_analysis.proto import config_pb2 as pb

    run = pb.EvalRun(eval_config=config, version=version.VERSION, model_locations=model_locations)
    with tf.io.gfile.GFile(os.path.join(output_dir, "eval_config.json"), "w") as file:
        file.write(json_format.MessageToJson(run))


def _write_summary(counts: Counts, output_dir: str, labels: list[str]) -> None:
    """Write `summary.json`: the same figures for programs that read JSON and don't import TFMA."""
    import tensorflow as tf

    summary = [
        {
            "model": model,
            "slice": {name: value for name, value in slice_key},
            "metrics": {name: _number(value) for name, value in overall_metrics(slice_counts).items()},
            "per_class": {
                labels[index]: {
                    name: _number(values[index]) for name, values in per_class_metrics(slice_counts).items()
                }
                for index in range(len(labels))
            },
            "confusion": slice_counts.confusion.tolist(),
            "reliability": reliability(slice_counts),
        }
        for (model, slice_key), slice_counts in sorted(counts.items(), key=lambda item: item[0])
    ]
    with tf.io.gfile.GFile(os.path.join(output_dir, "summary.json"), "w") as file:
        file.write(json.dumps({"labels": labels, "slices": summary}, indent=1))


def _number(value: float) -> float | None:
    """Return the value as JSON knows it: `nan` becomes null."""
    return None if math.isnan(value) else round(float(value), 6)
