"""EdgePusher: publishes the certified TFLite files as a mobile bundle, as atomically as the SavedModel.

The work is done by `pipeline.optimizing.bundling` and `serving.edge`; what it has in common with the FormPusher stands
in `pipeline.components.certified_pusher`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfx.dsl.components.base import executor_spec
from tfx.types import component_spec

from pipeline.components.certified_pusher import (
    INPUTS,
    OUTPUTS,
    PARAMETERS,
    Certified,
    CertifiedExecutor,
    CertifiedPusher,
    Package,
)
from pipeline.optimizing.bundling import bundle_contents, certified_metrics, why_none
from serving.edge.bundle import build_bundle
from serving.edge.publishing import publish_bundle
from serving.versions import PublishedVersion


class EdgePusherSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = PARAMETERS
    INPUTS = INPUTS
    OUTPUTS = OUTPUTS


class Executor(CertifiedExecutor):
    """Publishes a bundle, or says why not."""

    gate = "EdgePusher"
    thing = "the mobile bundle"
    nothing = "no bundle"

    def build(self, certified: Certified, folder: Path) -> Package | str:
        """Build the bundle of the TFLite files that were picked for phones."""
        contents = bundle_contents(certified.name, certified.card, certified.results, certified.variants)
        if contents is None:
            return why_none(certified.results)
        listed = ", ".join(f"{file.name} ({'/'.join(file.targets)})" for file in contents.files)
        return Package(build_bundle(folder, contents), certified_metrics(certified.results, contents), listed)

    def publish(self, folder: Path, destination: str, **fields: Any) -> PublishedVersion:
        """Publish the bundle."""
        return publish_bundle(folder, destination, **fields)


class EdgePusher(CertifiedPusher):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = EdgePusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
