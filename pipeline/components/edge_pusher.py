"""EdgePusher: publishes the certified TFLite files as a mobile bundle, as atomically as the SavedModel.

The work is done by `pipeline.optimizing.bundling` and `serving.edge`; this adapter unwraps artifacts. Nothing is
published of a model that a gate refused, and no form that was not certified.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.artifacts import ModelVariant, VariantResults
from pipeline.components.blessings import refusing_gates
from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.config.card import CardSettings
from pipeline.evaluation.verdict import Verdict, write_verdict
from pipeline.fingerprint import git_commit
from pipeline.optimizing.bundling import bundle_contents, certified_metrics
from serving.edge.bundle import build_bundle
from serving.edge.publishing import publish_bundle
from serving.errors import BundleError


class EdgePusherSpec(component_spec.ComponentSpec):
    """Interface of the component."""

    PARAMETERS = {
        "destination": parameter(str),
        "manifest": parameter(str),
        "card": parameter(str),
        "keep": component_spec.ExecutionParameter(type=int, optional=True),
        FINGERPRINT: parameter(str),
    }
    INPUTS = {
        "variants": component_spec.ChannelParameter(type=ModelVariant, optional=True),
        "results": component_spec.ChannelParameter(type=VariantResults),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
    }
    OUTPUTS = {"pushed_bundle": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class Executor(base_executor.BaseExecutor):
    """Publishes a bundle, or says why not."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publish what is certified, if both gates blessed the model."""
        pushed = artifact_utils.get_single_instance(output_dict["pushed_bundle"])
        results = Path(artifact_utils.get_single_instance(input_dict["results"]).uri)
        refused = refusing_gates(input_dict)
        if refused:
            pushed.set_int_custom_property("pushed", 0)
            sentence = f"no bundle was published, since {' and '.join(refused)} refused the model"
            write_verdict(Verdict("EdgePusher", False, sentence), pushed.uri)
            return
        manifest = json.loads(exec_properties["manifest"])
        folders = {artifact.variant: Path(artifact.uri) for artifact in input_dict.get("variants", [])}
        contents = bundle_contents(
            manifest["name"], CardSettings.model_validate_json(exec_properties["card"]), results, folders
        )
        if contents is None:
            pushed.set_int_custom_property("pushed", 0)
            sentence = "no bundle was published: no TFLite form was asked for, or none could be made"
            write_verdict(Verdict("EdgePusher", True, sentence), pushed.uri)
            return
        with tempfile.TemporaryDirectory(prefix="slipway-bundle-") as folder:
            try:
                bundle = build_bundle(Path(folder, "bundle"), contents)
            except BundleError as error:
                pushed.set_int_custom_property("pushed", 0)
                sentence = f"no bundle was published, since it would not hold what it promises: {error}"
                write_verdict(Verdict("EdgePusher", False, sentence), pushed.uri)
                return
            version = publish_bundle(
                bundle,
                exec_properties["destination"],
                metrics=certified_metrics(results, contents),
                config_hash=manifest["config_hash"],
                data_fingerprint=manifest["data_fingerprint"],
                git_commit=git_commit(),
                keep=exec_properties.get("keep"),
            )
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", str(version.path))
        pushed.set_string_custom_property("pushed_version", str(version.number))
        how = "is already there as" if version.already_published else "was published as"
        files = ", ".join(f"{file.name} ({'/'.join(file.targets)})" for file in contents.files)
        sentence = f"the mobile bundle {how} version {version.number}: {files}"
        published = {"version": version.number, "path": str(version.path), "passed": True}
        write_verdict(Verdict("EdgePusher", True, sentence, [published]), pushed.uri)


class EdgePusher(base_component.BaseComponent):
    """TFX component; see the module's docstring."""

    SPEC_CLASS = EdgePusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        variants: types.BaseChannel,
        results: types.BaseChannel,
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
            variants: the forms that were made; may resolve to nothing.
            results: what they cost and reach, and which are picked.
            model_blessing: the Evaluator's verdict on the model.
            infra_blessing: the InfraValidator's verdict on it.
            destination: base path of the bundles.
            manifest: fields of the manifest (`name`, `config_hash`, `data_fingerprint`).
            card: JSON of the section `card`.
            keep: number of versions to keep, or None for all.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            EdgePusherSpec(
                variants=variants,
                results=results,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                destination=destination,
                manifest=json.dumps(manifest, sort_keys=True),
                card=card,
                keep=keep,
                fingerprint=fingerprint,
                pushed_bundle=types.Channel(type=standard_artifacts.PushedModel),
            )
        )
