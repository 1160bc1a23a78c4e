"""From the results of the Optimizer to what goes into a mobile bundle.

Comes in: the folder of results and the folders of the variants. Goes out: `BundleContents`. Called by the EdgePusher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.config.card import CardSettings
from pipeline.optimizing import results
from pipeline.optimizing.variants import REFERENCE
from serving.certify.picks import Target
from serving.edge.bundle import BundleContents, BundleFile, SampleImage
from serving.measure import images

MOBILE_TARGETS: dict[Target, tuple[str, ...]] = {
    "mobile_cpu": ("cpu", "nnapi"),
    "mobile_gpu": ("gpu",),
    "mobile_size": ("size",),
}
"""What a pick's target is called on the bundle's card."""

_MODEL = "model.tflite"


def bundle_contents(name: str, card: CardSettings, folder: Path, variants: Mapping[str, Path]) -> BundleContents | None:
    """Return what goes into the bundle: the TFLite files that were picked for a phone.

    Args:
        name: of the model.
        card: what people should know about it.
        folder: the Optimizer's results.
        variants: folder of each variant, by its name.

    Returns:
        The contents; None if there is no TFLite file to ship.
    """
    certificate = results.read(folder)
    targets: dict[str, tuple[str, ...]] = {}
    for target, names in MOBILE_TARGETS.items():
        variant = certificate.picks[target].variant
        if variant in variants and (variants[variant] / _MODEL).is_file():
            targets[variant] = (*targets.get(variant, ()), *names)
    if not targets:
        return None
    labels = results.labels(folder)
    return BundleContents(
        name=name,
        version=certificate.model_version(REFERENCE),
        description=description(name, card, labels),
        labels=labels,
        files=tuple(
            BundleFile(variants[variant] / _MODEL, f"model_{variant.replace('tflite_', '')}.tflite", variant, names)
            for variant, names in targets.items()
        ),
        samples=sample_images(folder, labels),
        intended_use=card.intended_use,
        limits=card.limits,
        data=card.data,
        license=card.license,
        author=card.author,
        results=tuple(asdict(row) for row in certificate.rows),
        personalization=learning if (learning := folder / results.PERSONALIZATION_FILE).is_file() else None,
    )


def description(name: str, card: CardSettings, labels: Sequence[str]) -> str:
    """Return what the model does in a sentence: the config's, or one that is true of every classifier."""
    return card.description or f"{name}: tells {len(labels)} classes of images apart."


def sample_images(folder: Path, labels: Sequence[str]) -> tuple[SampleImage, ...]:
    """Return the sample images in a folder of results.

    Args:
        folder: the Optimizer's results.
        labels: class names by index.
    """
    return tuple(
        SampleImage(pixels, labels[int(label)])
        for batch, batch_labels in images.load(folder / results.SAMPLES_FILE).read()
        for pixels, label in zip(batch, batch_labels, strict=True)
    )


def certified_metrics(folder: Path, contents: BundleContents) -> dict[str, float | None]:
    """Return the accuracy of each file in a bundle on the report split, by its name."""
    shipped = {file.variant: file.name for file in contents.files}
    rows = results.read(folder).rows
    return {f"accuracy of {shipped[row.variant]}": row.accuracy for row in rows if row.variant in shipped}


def why_none(folder: Path) -> str:
    """Return why there is no TFLite file to ship, without a full stop."""
    reasons = {
        entry.reason.rstrip(".") for target, entry in results.read(folder).picks.items() if target in MOBILE_TARGETS
    }
    return "; ".join(sorted(reasons))
