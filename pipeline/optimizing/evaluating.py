"""TFMA's verdict on a picked form: the same slices and thresholds as the float model, with that one as the baseline.

Comes in: a form and the images of a split. Goes out: TFMA's files and a verdict. Called by
`pipeline.optimizing.optimize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.config.sections import EvaluateSettings
from pipeline.evaluation.counts import SliceCounts, SliceKey, count
from pipeline.evaluation.eval_config import BASELINE, CANDIDATE, SLICE_FEATURES, eval_config
from pipeline.evaluation.tfma_output import metrics_of_slice, write_evaluation
from pipeline.evaluation.verdict import Verdict, judge, write_verdict
from serving.forms.loading import load_form
from serving.measure.images import ImageBatches
from serving.measure.quality import labels_of, predict_all


def probabilities(form: str, path: Path, images: ImageBatches) -> np.ndarray:
    """Return a form's answers, float32 [N, K]."""
    model = load_form(form, path)
    try:
        return predict_all(model, images)
    finally:
        model.close()


def evaluate(
    answers: Mapping[str, np.ndarray],
    locations: Mapping[str, Path],
    images: ImageBatches,
    labels: Sequence[str],
    settings: EvaluateSettings,
    folder: Path,
) -> Verdict:
    """Judge a form as the Evaluator judges the float model.

    Args:
        answers: probabilities [N, K] of the form (`candidate`) and of the float model (`baseline`).
        locations: where the two lie, for TFMA's display.
        images: the images that were answered, with their labels.
        labels: class names by index.
        settings: slices and thresholds.
        folder: gets TFMA's files, `summary.json` and `verdict.json`; created.

    Returns:
        The verdict.
    """
    folder.mkdir(parents=True, exist_ok=True)
    actual = labels_of(images)
    counts: dict[tuple[str, SliceKey], SliceCounts] = {}
    for name in (CANDIDATE, BASELINE):
        for key, rows in _slices(actual, labels, settings):
            counts[name, key] = count(actual[rows], answers[name][rows], settings.top_k)
    config = eval_config(settings)
    paths = {name: str(path) for name, path in locations.items()}
    validation = write_evaluation(counts, config, str(folder), list(labels), paths)
    metrics = {key: metrics_of_slice(counts, key) for _, key in counts}
    verdict = judge(config, metrics, validation.validation_ok)
    write_verdict(verdict, str(folder))
    return verdict


def _slices(actual: np.ndarray, labels: Sequence[str], settings: EvaluateSettings) -> list[tuple[SliceKey, np.ndarray]]:
    """Return the whole split and its slices, as row numbers."""
    slices: list[tuple[SliceKey, np.ndarray]] = [((), np.arange(len(actual)))]
    if "label" in settings.slices:
        feature = SLICE_FEATURES["label"]
        slices += [(((feature, labels[index]),), np.flatnonzero(actual == index)) for index in np.unique(actual)]
    return slices
