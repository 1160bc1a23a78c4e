"""Artifact types of our own, where TFX has none."""

from __future__ import annotations

from tfx.types.artifact import Artifact, Property, PropertyType

NO_BASELINE = "no_baseline"
"""Custom property of a Model artifact that holds no model, where an orchestrator knows no optional inputs: 1."""


class ModelVariant(Artifact):
    """One form of a model: the file or folder that a runtime loads, under the name of the variant."""

    TYPE_NAME = "ModelVariant"
    PROPERTIES = {
        "variant": Property(type=PropertyType.STRING),
        "form": Property(type=PropertyType.STRING),
        "status": Property(type=PropertyType.STRING),
    }


class VariantResults(Artifact):
    """What the variants of a model cost and reach: the table, the picture, the picks, the evaluations."""

    TYPE_NAME = "VariantResults"
