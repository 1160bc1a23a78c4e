"""FormPusher: publishes the forms that were picked for servers, as atomically as the SavedModel.

The work is done by `pipeline.optimizing.delivering` and `serving.delivery`; what it has in common with the EdgePusher
stands in `pipeline.components.certified_pusher`.
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
from pipeline.optimizing.delivering import certified_metrics, delivery, why_none
from serving.delivery.build import build_delivery
from serving.delivery.publishing import publish_delivery
from serving.versions import PublishedVersion


class FormPusherSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = PARAMETERS
    INPUTS = INPUTS
    OUTPUTS = OUTPUTS


class Executor(CertifiedExecutor):
    """Publishes forms for servers, or says why not."""

    gate = "FormPusher"
    thing = "the package for servers"
    nothing = "no package for servers"

    def build(self, certified: Certified, folder: Path) -> Package | str:
        """Build the package of the forms that were picked for servers in place of the SavedModel."""
        contents = delivery(certified.name, certified.card, certified.results, certified.variants)
        if contents is None:
            return why_none(certified.results)
        listed = ", ".join(f"{form.variant} ({form.target})" for form in contents.forms)
        return Package(build_delivery(folder, contents), certified_metrics(contents), listed)

    def publish(self, folder: Path, destination: str, **fields: Any) -> PublishedVersion:
        """Publish the package."""
        return publish_delivery(folder, destination, **fields)


class FormPusher(CertifiedPusher):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = FormPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
