"""What EdgePusher and FormPusher have in common: publishing certified forms of a model that both gates blessed.

Comes in: artifacts of the Optimizer and the gates' blessings. Goes out: a version below the destination, or the reason
why there is none, as a verdict. Nothing is published of a model that a gate refused, and no form that was not
certified.
"""

from __future__ import annotations

import abc
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, base_executor
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.cards.publishing import documents, written_card
from pipeline.components.artifacts import ModelVariant, VariantResults
from pipeline.components.blessings import refusing_gates
from pipeline.components.fingerprinted import FINGERPRINT, parameter
from pipeline.config.card import CardSettings
from pipeline.evaluation.verdict import Verdict, write_verdict
from pipeline.fingerprint import git_commit
from pipeline.optimizing import results as optimizer_results
from serving.errors import ServingError
from serving.versions import PublishedVersion

OUTPUT = "pushed"

PARAMETERS = {
    "destination": parameter(str),
    "manifest": parameter(str),
    "card": parameter(str),
    "keep": component_spec.ExecutionParameter(type=int, optional=True),
    FINGERPRINT: parameter(str),
}
INPUTS = {
    "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
    "variants": component_spec.ChannelParameter(type=ModelVariant, optional=True),
    "results": component_spec.ChannelParameter(type=VariantResults),
    "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
}
OUTPUTS = {OUTPUT: component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


@dataclass(frozen=True)
class Certified:
    """What the Optimizer left.

    Attributes:
        name: name of the model.
        card: what people should know about it.
        results: folder of `pipeline.optimizing.results`.
        variants: folder of each variant, by its name.
    """

    name: str
    card: CardSettings
    results: Path
    variants: Mapping[str, Path]


@dataclass(frozen=True)
class Package:
    """What is built and ready to be published.

    Attributes:
        folder: where it lies.
        metrics: for the manifest.
        contents: what is in it, for people.
    """

    folder: Path
    metrics: Mapping[str, float | None]
    contents: str


class CertifiedExecutor(base_executor.BaseExecutor, abc.ABC):
    """Publishes a package of certified forms, or says why not."""

    gate: ClassVar[str]
    """Name of the stage, for its verdict."""
    thing: ClassVar[str]
    """What it publishes, with its article."""
    nothing: ClassVar[str]
    """The same where there is none."""

    @abc.abstractmethod
    def build(self, certified: Certified, folder: Path) -> Package | str:
        """Build the package in a new folder, or return why there is nothing to publish.

        Raises:
            ServingError: it cannot be built, or would not be what was certified.
        """

    @abc.abstractmethod
    def publish(self, folder: Path, destination: str, **fields: Any) -> PublishedVersion:
        """Publish a built package; the fields are those of `serving.publish.publish`."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publish what is certified, if both gates blessed the model."""
        pushed = artifact_utils.get_single_instance(output_dict[OUTPUT])
        pushed.set_int_custom_property("pushed", 0)
        refused = refusing_gates(input_dict)
        if refused:
            sentence = f"{self.nothing} was published, since {' and '.join(refused)} refused the model"
            write_verdict(Verdict(self.gate, False, sentence), pushed.uri)
            return
        manifest = json.loads(exec_properties["manifest"])
        certified = Certified(
            manifest["name"],
            written_card(exec_properties["card"]),
            Path(artifact_utils.get_single_instance(input_dict["results"]).uri),
            {artifact.variant: Path(artifact.uri) for artifact in input_dict.get("variants", [])},
        )
        with tempfile.TemporaryDirectory(prefix="slipway-package-") as scratch:
            try:
                package = self.build(certified, Path(scratch, "package"))
            except ServingError as error:
                sentence = f"{self.nothing} was published, since it would not hold what was certified: {error}"
                write_verdict(Verdict(self.gate, False, sentence), pushed.uri)
                return
            if isinstance(package, str):
                write_verdict(Verdict(self.gate, True, f"{self.nothing} was published: {package}"), pushed.uri)
                return
            commit = git_commit()
            examples, evaluation = (
                Path(artifact_utils.get_single_instance(input_dict[key]).uri) for key in ("examples", "evaluation")
            )
            version = self.publish(
                package.folder,
                exec_properties["destination"],
                metrics=package.metrics,
                config_hash=manifest["config_hash"],
                data_fingerprint=manifest["data_fingerprint"],
                git_commit=commit,
                keep=exec_properties.get("keep"),
                documents=documents(
                    exec_properties["card"],
                    examples,
                    evaluation,
                    manifest,
                    commit,
                    optimizer_results.read(certified.results),
                ),
            )
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", str(version.path))
        pushed.set_string_custom_property("pushed_version", str(version.number))
        how = "is already there as" if version.already_published else "was published as"
        sentence = f"{self.thing} {how} version {version.number}: {package.contents}"
        published = {"version": version.number, "path": str(version.path), "passed": True}
        write_verdict(Verdict(self.gate, True, sentence, [published]), pushed.uri)


class CertifiedPusher(base_component.BaseComponent):
    """Constructor of both components."""

    def __init__(
        self,
        examples: types.BaseChannel,
        evaluation: types.BaseChannel,
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
            examples: what the model was trained and evaluated on, for the card.
            evaluation: the float model's, for the card.
            variants: the forms that were made; may resolve to nothing.
            results: what they cost and reach, and which are picked.
            model_blessing: the Evaluator's verdict on the model.
            infra_blessing: the InfraValidator's verdict on it.
            destination: base path of the versions.
            manifest: fields of the manifest (`name`, `config_hash`, `data_fingerprint`).
            card: what the config knows about the model card; see `pipeline.cards.publishing`.
            keep: number of versions to keep, or None for all.
            fingerprint: what the stage depends on besides its inputs.
        """
        super().__init__(
            self.SPEC_CLASS(
                examples=examples,
                evaluation=evaluation,
                variants=variants,
                results=results,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                destination=destination,
                manifest=json.dumps(manifest, sort_keys=True),
                card=card,
                keep=keep,
                fingerprint=fingerprint,
                **{OUTPUT: types.Channel(type=standard_artifacts.PushedModel)},
            )
        )
