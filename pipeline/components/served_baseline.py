"""The baseline where an orchestrator has no resolvers: the model that is in service, taken from what was published.

Comes in: the folder of published versions and the candidate. Goes out: a copy of the newest intact version that is not
the candidate itself, as a Model artifact; where there is none, an artifact that says so. What is blessed is published,
so this is the model that our resolver would find, or an older one where publishing failed.
"""

from __future__ import annotations

import shutil
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.components.artifacts import NO_BASELINE
from pipeline.components.fingerprinted import parameter
from serving import manifest as manifests
from serving.versions import versions


class ServedBaselineSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {"published": parameter(str)}
    INPUTS = {"candidate": component_spec.ChannelParameter(type=standard_artifacts.Model)}
    OUTPUTS = {"model": component_spec.ChannelParameter(type=standard_artifacts.Model)}


class Executor(base_executor.BaseExecutor):
    """Copies the version in service."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Find the newest intact version with another content than the candidate's, and copy its model."""
        candidate = path_utils.serving_model_path(artifact_utils.get_single_instance(input_dict["candidate"]).uri)
        digest = manifests.model_digest(manifests.describe_files(candidate))
        model = artifact_utils.get_single_instance(output_dict["model"])
        for version in reversed(versions(exec_properties["published"])):
            if version.ok and version.manifest is not None and version.manifest.model_digest != digest:
                target = path_utils.serving_model_dir(model.uri)
                ignore = shutil.ignore_patterns(manifests.MANIFEST_FILE)
                shutil.copytree(version.path, target, ignore=ignore, dirs_exist_ok=True)
                model.set_string_custom_property("version", str(version.number))
                return
        model.set_int_custom_property(NO_BASELINE, 1)


class ServedBaseline(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = ServedBaselineSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, published: str, candidate: types.BaseChannel):
        """Initialize.

        Args:
            published: folder of the published versions, as the Pusher's `destination`.
            candidate: the model that is about to be judged.
        """
        super().__init__(
            ServedBaselineSpec(
                published=published, candidate=candidate, model=types.Channel(type=standard_artifacts.Model)
            )
        )
