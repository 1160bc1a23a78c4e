"""A blessed model in, every form that the config asks for out: made, measured, judged, picked.

Called by the Optimizer component and by tests. Forms are admitted and picked on one split and reported on another; a
picked form is then held to TFMA's slices and thresholds like the float model, and if it misses one, the next best is
picked.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.compress import CompressSettings
from pipeline.config.sections import EvaluateSettings
from pipeline.evaluation.eval_config import BASELINE, CANDIDATE
from pipeline.evaluation.verdict import Verdict
from pipeline.optimizing import results
from pipeline.optimizing.evaluating import evaluate, probabilities
from pipeline.optimizing.making import REPRESENTATIVE_SPLIT, ImageFiles, Made, make, write_images
from pipeline.optimizing.personalizing import personalize
from pipeline.optimizing.results import Certificate
from pipeline.optimizing.sources import Sources
from pipeline.optimizing.variants import REFERENCE, parse_variant
from serving.certify.budget import Budget, judge
from serving.certify.picks import pick
from serving.certify.picture import draw
from serving.certify.table import Row, Status, row_of
from serving.convert.forms import FORMS
from serving.convert.tftrt_segments import coverage_sentence
from serving.errors import ServingError
from serving.installed import installed
from serving.measure.images import ImageBatches
from serving.measure.images import load as load_images
from serving.measure.latency import LatencySettings
from serving.measure.measurement import Measurement
from serving.measure.running import measure
from transform.progress import report

LOGGER = logging.getLogger("slipway.optimizing")

SAMPLES = 12
"""Images that travel with the mobile bundle."""


@dataclass(frozen=True)
class Optimized:
    """What the stage found."""

    certificate: Certificate
    forms: dict[str, str]
    """Form by variant."""
    verdict: Verdict


def optimize(
    settings: CompressSettings,
    gates: EvaluateSettings,
    sources: Sources,
    *,
    variants_dir: Path,
    results_dir: Path,
    store: Path,
) -> Optimized:
    """Make, measure and judge the variants of a model.

    Args:
        settings: the section `compress`.
        gates: the section `evaluate`, to which picked forms are held.
        sources: the blessed model and its data.
        variants_dir: gets a folder per variant that could be made.
        results_dir: gets the files of `pipeline.optimizing.results`.
        store: where trained techniques are kept between runs.

    Returns:
        The rows, one for every variant whatever became of it, the picks and the verdict.

    Raises:
        ConfigError: a split that is needed is empty.
        TrainerError: the Keras model can't be read.
    """
    variants = [parse_variant(name) for name in settings.variants if name != REFERENCE]
    with tempfile.TemporaryDirectory(prefix="slipway-optimize-") as scratch:
        images = write_images(settings, sources, Path(scratch))
        made = make(variants, settings, sources, images, variants_dir, store)
        measured = _measure(made, settings, sources, images)
        rows = _rows(made, measured, settings, sources.labels)
        judge_picks = _PickJudge(gates, settings, sources, images, made, results_dir / results.EVALUATIONS)
        rows = judge_picks.settle(rows)
        report_images = load_images(images.report)
        results.write_samples(report_images, SAMPLES, settings.seed, results_dir)
    about: dict[str, Any] = {
        "model": str(sources.saved_model),
        "budget": settings.budget.model_dump(mode="json"),
        "splits": {"choose": settings.choose_split, "report": settings.report_split},
        "representative": {"split": REPRESENTATIVE_SPLIT, "images": settings.representative, "seed": settings.seed},
        "machine": measured[REFERENCE].environment,
    }
    if settings.personalization:
        report(0, 1, "files", converting="personalization")
        about["personalization"] = personalize(sources.keras, results_dir / results.PERSONALIZATION_FILE)
    certificate = Certificate(rows, pick(rows, REFERENCE), about)
    results.write(certificate, _details(made), sources.labels, results_dir)
    _draw(certificate, results_dir)
    verdict = Verdict("Optimizer", True, certificate.sentence(REFERENCE), [_check(row) for row in rows])
    return Optimized(certificate, {REFERENCE: REFERENCE, **{m.variant.name: m.variant.form for m in made}}, verdict)


def _measure(
    made: Sequence[Made], settings: CompressSettings, sources: Sources, images: ImageFiles
) -> dict[str, Measurement]:
    """Measure everything that could be made, and the reference, in one process."""
    forms = {REFERENCE: (REFERENCE, sources.saved_model)}
    forms |= {m.variant.name: (m.variant.form, m.outcome.path) for m in made if m.outcome.path is not None}
    return measure(
        forms,
        REFERENCE,
        images.choose,
        images.report,
        latency=LatencySettings(rounds=settings.rounds, seed=settings.seed),
        on_progress=lambda done, total: report(done, total, "measurements"),
    )


def _rows(
    made: Sequence[Made], measured: Mapping[str, Measurement], settings: CompressSettings, labels: Sequence[str]
) -> list[Row]:
    """Return the table before TFMA has seen the picks."""
    budget = Budget(**settings.budget.model_dump())
    rows = [row_of(measured[REFERENCE], "", REFERENCE, classes=labels)]
    for item in made:
        variant, outcome = item.variant, item.outcome
        technique, runtime = variant.technique.name if variant.technique else "", FORMS[variant.form].runtime
        if outcome.path is None:
            failed: Status = "skipped" if outcome.status == "skipped" else "failed"
            reason = f"{outcome.reason} {coverage_sentence(outcome.details)}".strip()
            rows.append(Row(variant.name, technique, variant.form, runtime, failed, reason))
            continue
        measurement = measured[variant.name]
        verdict = judge(measurement, budget, technique=technique)
        status: Status = "ok" if verdict.ok else "refused"
        reason = f"{verdict.reason} {teacher_remark(item.training)}".strip()
        rows.append(row_of(measurement, technique, runtime, status=status, reason=reason, classes=labels))
    return rows


def teacher_remark(training: Mapping[str, Any]) -> str:
    """Return what a reader should know of a student whose teacher did not help; empty for all others.

    Args:
        training: what a technique tells about its work.
    """
    for stage in training.get("stages", ()):
        if stage.get("helped") is False:
            alone, taught = stage["plain_student"]["eval"]["accuracy"], stage["eval"]["accuracy"]
            return f"The teacher did not help: {taught:.4f} on eval, a student of the same size without it {alone:.4f}."
    return ""


class _PickJudge:
    """Holds picked forms to TFMA's thresholds."""

    def __init__(
        self,
        gates: EvaluateSettings,
        settings: CompressSettings,
        sources: Sources,
        images: ImageFiles,
        made: Sequence[Made],
        folder: Path,
    ):
        """Take what every evaluation needs."""
        self._gates = gates
        self._settings = settings
        self._sources = sources
        self._files = images
        self._made = {item.variant.name: item for item in made}
        self._folder = folder

    def settle(self, rows: list[Row]) -> list[Row]:
        """Evaluate picks until every one of them passes; those that don't are refused."""
        passed: set[str] = {REFERENCE}
        while True:
            picked = {entry.variant for entry in pick(rows, REFERENCE).values()} - passed
            if not picked:
                return rows
            for name in sorted(picked):
                report(len(passed), None, "evaluations", evaluating=name)
                verdict = self._evaluate(name)
                if verdict.passed:
                    passed.add(name)
                else:
                    rows = [_refused(row, verdict) if row.variant == name else row for row in rows]

    def _evaluate(self, name: str) -> Verdict:
        item = self._made[name]
        assert item.outcome.path is not None
        try:
            answers = probabilities(item.variant.form, item.outcome.path, self._images)
        except ServingError as error:
            return Verdict("Evaluator", False, f"{name} does not run: {error}")
        return evaluate(
            {CANDIDATE: answers, BASELINE: self._float_answers},
            {CANDIDATE: item.outcome.path, BASELINE: self._sources.saved_model},
            self._images,
            self._sources.labels,
            self._gates,
            self._folder / name,
        )

    @cached_property
    def _images(self) -> ImageBatches:
        """The images of the split on which the float model was judged."""
        if self._gates.split == self._settings.report_split:
            return load_images(self._files.report)
        if self._gates.split == self._settings.choose_split:
            return load_images(self._files.choose)
        return self._sources.images(self._gates.split, self._settings.examples, self._settings.seed)

    @cached_property
    def _float_answers(self) -> np.ndarray:
        return probabilities(REFERENCE, self._sources.saved_model, self._images)


def _draw(certificate: Certificate, folder: Path) -> None:
    """Draw the forms' figures, where matplotlib is there; the table says it all without it."""
    if not installed("matplotlib"):
        LOGGER.warning("no picture of the forms: matplotlib is missing; install tfx-slipway[convert]")
        return
    machine = certificate.about["machine"].get("cpu", "this machine")
    note = f"{len(certificate.rows)} forms, measured in one run on {machine}"
    draw(certificate.rows, folder / results.PICTURE, note=note, picks=certificate.picks)


def _refused(row: Row, verdict: Verdict) -> Row:
    """Return a row that the Evaluator's gates refuse."""
    sentence = f"Refused by the gates of the section evaluate: {verdict.sentence}."
    return replace(row, status="refused", reason=f"{row.reason} {sentence}".strip())


def _details(made: Sequence[Made]) -> dict[str, Any]:
    return {
        item.variant.name: {
            "seconds": round(item.outcome.seconds, 3),
            "conversion": item.outcome.details,
            "training": item.training,
        }
        for item in made
    }


def _check(row: Row) -> dict[str, Any]:
    """Return a row as a check of the verdict."""
    return {
        "variant": row.variant,
        "status": row.status,
        "accuracy": row.accuracy,
        "bytes": row.bytes,
        "ratio": row.ratio,
        "passed": row.ok,
        "reason": row.reason,
    }
