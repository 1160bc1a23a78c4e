"""Optimizer: makes the forms in which a blessed model ships, measures them, and says which may ship.

The work itself is `pipeline.optimizing.optimize`; this adapter unwraps artifacts and yields one artifact per variant
beside one with the results. A model that the Evaluator refused gets no variants.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.components.artifacts import ModelVariant, VariantResults
from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.config.compress import CompressSettings
from pipeline.config.sections import EvaluateSettings
from pipeline.evaluation.verdict import Verdict, write_verdict
from pipeline.optimizing.optimize import optimize
from pipeline.optimizing.sources import Sources
from trainer import handover


class OptimizerSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {
        "compress": parameter(str),
        "evaluate": parameter(str),
        "store": parameter(str),
        FINGERPRINT: parameter(str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS = {
        "variants": component_spec.ChannelParameter(type=ModelVariant),
        "results": component_spec.ChannelParameter(type=VariantResults),
    }


class Executor(base_executor.BaseExecutor):
    """Makes and certifies the variants of a blessed model."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Make the variants, unless the model was refused."""
        results = artifact_utils.get_single_instance(output_dict["results"])
        (template,) = output_dict["variants"]
        if not model_utils.is_model_blessed(artifact_utils.get_single_instance(input_dict["model_blessing"])):
            output_dict["variants"] = []
            sentence = "no forms were made, since the Evaluator refused the model"
            write_verdict(Verdict("Optimizer", False, sentence), results.uri)
            return
        model = artifact_utils.get_single_instance(input_dict["model"])
        sources = Sources(
            saved_model=Path(path_utils.serving_model_path(model.uri)),
            keras=Path(model.uri, handover.FOLDER),
            examples=Path(artifact_utils.get_single_instance(input_dict["examples"]).uri),
            transform_graph=Path(artifact_utils.get_single_instance(input_dict["transform_graph"]).uri),
        )
        optimized = optimize(
            CompressSettings.model_validate_json(exec_properties["compress"]),
            EvaluateSettings.model_validate_json(exec_properties["evaluate"]),
            sources,
            variants_dir=Path(template.uri),
            results_dir=Path(results.uri),
            store=Path(exec_properties["store"]),
        )
        output_dict["variants"] = [
            _variant(template.uri, row.variant, optimized.forms[row.variant], row.status)
            for row in optimized.certificate.rows
            if os.path.isdir(os.path.join(template.uri, row.variant))
        ]
        write_verdict(optimized.verdict, results.uri)


def _variant(base: str, name: str, form: str, status: str) -> ModelVariant:
    """Return the artifact of one variant; TFX wants each in a folder of its own below the one it gave."""
    artifact = ModelVariant()
    artifact.uri = os.path.join(base, name)
    artifact.variant, artifact.form, artifact.status = name, form, status
    return artifact


class Optimizer(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = OptimizerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        compress: str,
        evaluate: str,
        store: str,
        fingerprint: str,
    ):
        """Initialize.

        Args:
            examples: the examples of all splits.
            transform_graph: decodes them.
            model: the candidate.
            model_blessing: the Evaluator's verdict on it.
            compress: JSON of the section `compress`.
            evaluate: JSON of the section `evaluate`: a picked form is held to the same slices and gates.
            store: folder where trained techniques are kept between runs.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            OptimizerSpec(
                examples=examples,
                transform_graph=transform_graph,
                model=model,
                model_blessing=model_blessing,
                compress=compress,
                evaluate=evaluate,
                store=store,
                fingerprint=fingerprint,
                variants=types.Channel(type=ModelVariant),
                results=types.Channel(type=VariantResults),
            )
        )
