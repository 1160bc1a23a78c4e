"""What all our components share: a `fingerprint` parameter, by which the cache sees what a stage depends on."""

from __future__ import annotations

from tfx.types import component_spec

FINGERPRINT = "fingerprint"
"""Name of the execution property: JSON of the stage's code, config and data hashes (`pipeline.stage_keys`)."""


def parameter(kind: type) -> component_spec.ExecutionParameter:
    """Return a required execution parameter of a simple type."""
    return component_spec.ExecutionParameter(type=kind)
