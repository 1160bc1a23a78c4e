"""Making variants: every technique trained, every form converted, every failure kept with its reason.

Comes in: the variants and the model. Goes out: a file or folder of each, or why there is none. Called by
`pipeline.optimizing.optimize`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.compress import CompressSettings
from pipeline.optimizing.sources import Sources
from pipeline.optimizing.training import Trained, train_techniques
from pipeline.optimizing.variants import Variant
from serving.convert.forms import FORMS
from serving.convert.job import Conversion, Outcome
from serving.convert.running import convert
from transform.progress import report

CONVERSIONS_AT_ONCE = 2
"""Each takes about 1 GB of memory, so more would be no gain on the machines that this is for."""

REPRESENTATIVE_SPLIT = "train"
"""The split that sets the ranges of integers; those that had seen the images of the verdict would flatter."""


@dataclass(frozen=True)
class Made:
    """What came of the making of one variant."""

    variant: Variant
    outcome: Outcome
    training: dict[str, Any]
    """What the technique tells about its work; empty if there is none."""


@dataclass(frozen=True)
class ImageFiles:
    """The sets of images that conversion and measurement read, as files (`ImageBatches.save`)."""

    choose: Path
    report: Path
    representative: Path


def write_images(settings: CompressSettings, sources: Sources, folder: Path) -> ImageFiles:
    """Write the sets of images into a folder.

    Raises:
        ConfigError: a split is empty.
    """
    files = ImageFiles(folder / "choose.npz", folder / "report.npz", folder / "representative.npz")
    wanted = {
        files.choose: (settings.choose_split, settings.examples),
        files.report: (settings.report_split, settings.examples),
        files.representative: (REPRESENTATIVE_SPLIT, settings.representative),
    }
    for path, (split, count) in wanted.items():
        sources.images(split, count, settings.seed).save(path)
    return files


def make(
    variants: Sequence[Variant],
    settings: CompressSettings,
    sources: Sources,
    images: ImageFiles,
    variants_dir: Path,
    store: Path,
) -> list[Made]:
    """Make variants, each in a folder of its own name.

    Args:
        variants: what to make.
        settings: the section `compress`.
        sources: the float model and its data.
        images: for calibration and for mixed precision.
        variants_dir: gets a folder per variant that could be made.
        store: where trained techniques are kept between runs.

    Returns:
        What came of each, in the order of `variants`.
    """
    techniques = {variant.technique.name: variant.technique for variant in variants if variant.technique}
    trained = train_techniques(techniques.values(), settings.finetune, sources, store)
    floats = Trained(sources.saved_model)
    origins = [trained[variant.technique.name] if variant.technique else floats for variant in variants]
    outcomes = []
    # Each conversion is a process of its own that calculates on one core.
    with ThreadPoolExecutor(max_workers=min(CONVERSIONS_AT_ONCE, os.cpu_count() or 1)) as pool:
        jobs = [
            pool.submit(_convert, variant, origin, settings, images, variants_dir)
            for variant, origin in zip(variants, origins, strict=True)
        ]
        for done, (variant, job) in enumerate(zip(variants, jobs, strict=True)):
            report(done, len(variants), "forms", converting=variant.name)
            outcomes.append(job.result())
    return [
        Made(variant, outcome, origin.details)
        for variant, outcome, origin in zip(variants, outcomes, origins, strict=True)
    ]


def _convert(
    variant: Variant, source: Trained, settings: CompressSettings, images: ImageFiles, variants_dir: Path
) -> Outcome:
    """Convert one variant, unless the technique before it failed."""
    if source.saved_model is None:
        return Outcome(variant.form, "failed", source.reason, None, 0.0)
    options: dict[str, Any] = {}
    if FORMS[variant.form].needs_representative:
        options["seed"] = settings.seed
    if variant.form == "tflite_mixed":
        options |= {"budget": settings.budget.max_accuracy_drop or 0.0, "images": str(images.choose)}
    job = Conversion(
        form=variant.form,
        saved_model=source.saved_model,
        out_dir=variants_dir / variant.name,
        representative=images.representative if FORMS[variant.form].needs_representative else None,
        options=options,
    )
    return convert(job, settings.timeout_seconds)
