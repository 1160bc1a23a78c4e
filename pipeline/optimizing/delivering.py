"""From the results of the Optimizer to what servers get beside the SavedModel.

Comes in: the folder of results and the folders of the variants. Goes out: a `Delivery`. Called by the FormPusher.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.config.card import CardSettings
from pipeline.optimizing import results
from pipeline.optimizing.bundling import description, sample_images
from pipeline.optimizing.results import Certificate
from pipeline.optimizing.variants import REFERENCE
from serving.convert.forms import FORMS
from serving.delivery.build import PACKAGES, Delivery, ServerForm, ServerTarget

SERVER_TARGETS: tuple[ServerTarget, ...] = ("server_cpu", "server_gpu")


def delivery(name: str, card: CardSettings, folder: Path, variants: Mapping[str, Path]) -> Delivery | None:
    """Return what servers get: the forms that were picked for them in place of the SavedModel.

    Args:
        name: of the model.
        card: what people should know about it.
        folder: the Optimizer's results.
        variants: folder of each variant, by its name.

    Returns:
        The contents; None if every server gets the SavedModel, which the Pusher publishes.
    """
    certificate = results.read(folder)
    details = json.loads((folder / results.DETAILS_FILE).read_text(encoding="utf-8"))
    forms = tuple(
        _form(target, certificate, variants, details)
        for target in SERVER_TARGETS
        if certificate.picks[target].variant in variants
    )
    if not forms:
        return None
    labels = results.labels(folder)
    return Delivery(
        name=name,
        version=certificate.model_version(REFERENCE),
        description=description(name, card, labels),
        labels=labels,
        forms=forms,
        samples=sample_images(folder, labels),
        intended_use=card.intended_use,
        limits=card.limits,
        data=card.data,
        license=card.license,
        author=card.author,
    )


def _form(
    target: ServerTarget, certificate: Certificate, variants: Mapping[str, Path], details: Mapping[str, Any]
) -> ServerForm:
    """Return what is known about a target's pick."""
    pick = certificate.picks[target]
    row = next(row for row in certificate.rows if row.variant == pick.variant)
    form = FORMS[row.form]
    conversion = details[row.variant]["conversion"]
    return ServerForm(
        target=target,
        reason=pick.reason,
        variant=row.variant,
        form=row.form,
        source=variants[row.variant] / form.file_name if form.file_name else variants[row.variant],
        measured_sha256=row.sha256 or "",
        runtime_version=certificate.about["machine"].get("versions", {}).get(PACKAGES[form.runtime], "unknown"),
        results=asdict(row),
        calibration_images=conversion.get("representative_images"),
        calibration_seed=conversion.get("seed"),
    )


def certified_metrics(contents: Delivery) -> dict[str, float | None]:
    """Return the accuracy of each form on the report split, by its target."""
    found = {f"accuracy of {form.target}": form.results["accuracy"] for form in contents.forms}
    return {name: value if isinstance(value, float) else None for name, value in found.items()}


def why_none(folder: Path) -> str:
    """Return why servers get nothing but the SavedModel, without a full stop."""
    picks = results.read(folder).picks
    reasons = "; ".join(f"{target}: {picks[target].reason.rstrip('.')}" for target in SERVER_TARGETS)
    return f"servers get the SavedModel ({reasons})"
