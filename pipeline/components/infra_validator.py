"""InfraValidator without docker: a clean subprocess loads the model as TensorFlow Serving does and asks it.

TFX knows docker and kubernetes only. The check itself is `serving.infra_probe`; this adapter unwraps artifacts,
gives the blessing and writes the verdict. Input and output artifacts are those of TFX's InfraValidator.
"""

from __future__ import annotations

import glob
import os
from typing import Any

from tfx import types
from tfx.components.infra_validator import executor as tfx_executor
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.evaluation.verdict import Verdict, write_verdict
from serving.infra_probe import validate_in_subprocess


class InfraValidatorSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {
        "timeout_seconds": parameter(int),
        "count": parameter(int),
        "split": parameter(str),
        FINGERPRINT: parameter(str),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class Executor(base_executor.BaseExecutor):
    """Blesses a model that a fresh process can load and question."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the probe and write blessing and verdict."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        files = sorted(glob.glob(os.path.join(artifact_utils.get_split_uri([examples], exec_properties["split"]), "*")))
        outcome = validate_in_subprocess(
            path_utils.serving_model_path(model.uri),
            files[:1],
            count=exec_properties["count"],
            timeout_seconds=exec_properties["timeout_seconds"],
        )
        sentence = f"{len(outcome.checks)} checks in a fresh process passed" if outcome.ok else outcome.reason
        checks = [{"name": check.name, "passed": check.ok, "detail": check.detail} for check in outcome.checks]
        write_verdict(Verdict("InfraValidator", outcome.ok, sentence, checks), blessing.uri)
        mark = tfx_executor._mark_blessed if outcome.ok else tfx_executor._mark_not_blessed
        mark(blessing)


class InfraValidator(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = InfraValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        split: str,
        count: int,
        timeout_seconds: int,
        fingerprint: str,
    ):
        """Initialize.

        Args:
            model: the candidate.
            examples: where the requests are taken from.
            split: the split of the requests.
            count: number of requests.
            timeout_seconds: time limit of the whole check.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            InfraValidatorSpec(
                model=model,
                examples=examples,
                split=split,
                count=count,
                timeout_seconds=timeout_seconds,
                fingerprint=fingerprint,
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
