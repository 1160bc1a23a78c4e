"""Pusher: publishes a blessed model atomically, as a strictly growing version with a manifest.

TFX's executor copies in place under a name made of the clock's seconds. This one hands the work to
`serving.publish`, and refuses without both blessings; a model card lies beside the model. Input and output artifacts
are those of TFX's Pusher, and what the card tells about.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from pipeline.cards.publishing import documents
from pipeline.components.blessings import refusing_gates
from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.evaluation.eval_config import CANDIDATE
from pipeline.evaluation.verdict import Verdict, write_verdict
from pipeline.fingerprint import git_commit
from serving.publish import publish


class PusherSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {
        "destination": parameter(str),
        "manifest": parameter(str),
        "card": parameter(str),
        "keep": component_spec.ExecutionParameter(type=int, optional=True),
        FINGERPRINT: parameter(str),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
    }
    OUTPUTS = {"pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class Executor(base_executor.BaseExecutor):
    """Publishes, or says why not."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publish the model if both gates blessed it."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        refused = refusing_gates(input_dict)
        if refused:
            pushed.set_int_custom_property("pushed", 0)
            sentence = f"nothing was pushed, since {' and '.join(refused)} refused the model"
            write_verdict(Verdict("Pusher", False, sentence), pushed.uri)
            return
        evaluation = artifact_utils.get_single_instance(input_dict["evaluation"])
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        manifest, commit = json.loads(exec_properties["manifest"]), git_commit()
        version = publish(
            path_utils.serving_model_path(model.uri),
            exec_properties["destination"],
            metrics=candidate_metrics(evaluation.uri),
            keep=exec_properties.get("keep"),
            git_commit=commit,
            documents=documents(exec_properties["card"], Path(examples.uri), Path(evaluation.uri), manifest, commit),
            **manifest,
        )
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", str(version.path))
        pushed.set_string_custom_property("pushed_version", str(version.number))
        how = "is already there as" if version.already_published else "was published as"
        sentence = f"the model {how} version {version.number}"
        published = {"version": version.number, "path": str(version.path), "passed": True}
        write_verdict(Verdict("Pusher", True, sentence, [published]), pushed.uri)


def candidate_metrics(evaluation_uri: str) -> dict[str, float | None]:
    """Return the candidate's metrics on the whole split from an evaluation's `summary.json`."""
    with open(os.path.join(evaluation_uri, "summary.json"), encoding="utf-8") as file:
        slices = json.load(file)["slices"]
    return next(s["metrics"] for s in slices if s["model"] == CANDIDATE and not s["slice"])


class Pusher(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        evaluation: types.BaseChannel,
        model_blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        destination: str,
        manifest: dict[str, Any],
        card: str,
        keep: int | None,
        fingerprint: str,
    ):
        """Initialize.

        Args:
            model: the candidate.
            examples: what it was trained and evaluated on, for the card.
            evaluation: its evaluation; the metrics enter the manifest.
            model_blessing: the Evaluator's verdict.
            infra_blessing: the InfraValidator's verdict.
            destination: base path that TensorFlow Serving watches.
            manifest: further fields of the manifest (`name`, `config_hash`, `data_fingerprint`).
            card: what the config knows about the model card; see `pipeline.cards.publishing`.
            keep: number of versions to keep, or None for all.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            PusherSpec(
                model=model,
                examples=examples,
                evaluation=evaluation,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                destination=destination,
                manifest=json.dumps(manifest, sort_keys=True),
                card=card,
                keep=keep,
                fingerprint=fingerprint,
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )
