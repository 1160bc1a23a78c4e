"""The whole pipeline on one screen: which stage reads what.

Comes in: the config, the stages' keys and the work directory. Goes out: a TFX pipeline, the same for every
orchestrator. Called by the runners. What a stage does stands in its component; what it reads of the config in
`pipeline.stage_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.components.trainer.component import Trainer
from tfx.components.transform.component import Transform
from tfx.components.tuner.component import Tuner
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import trainer_pb2
from tfx.types import Channel, standard_artifacts

from pipeline.beam_options import beam_args
from pipeline.cards.publishing import card_settings
from pipeline.components.base_model import BaseModelStrategy
from pipeline.components.baseline import BaselineStrategy
from pipeline.components.bulk_inferrer import BulkInferrer
from pipeline.components.edge_pusher import EdgePusher
from pipeline.components.endpoint_deployer import EndpointDeployer
from pipeline.components.evaluator import Evaluator
from pipeline.components.example_gen import ExampleGen
from pipeline.components.example_validator import ExampleValidator
from pipeline.components.form_pusher import FormPusher
from pipeline.components.infra_validator import InfraValidator
from pipeline.components.inline_schema import InlineSchema
from pipeline.components.optimizer import Optimizer
from pipeline.components.pusher import Pusher
from pipeline.components.served_baseline import ServedBaseline
from pipeline.components.statistics_gen import StatisticsGen
from pipeline.config.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.eval_config import eval_config
from pipeline.metadata_connection import metadata_connection
from pipeline.stage_keys import StageKey, training_config_hash
from pipeline.targets import LOCAL, Target
from pipeline.workdir import WorkDir


def build_pipeline(
    config: Config, keys: Mapping[str, StageKey], workdir: WorkDir, data_fingerprint: str, target: Target = LOCAL
) -> tfx_pipeline.Pipeline:
    """Return the pipeline of a config.

    Args:
        config: the config.
        keys: key of each stage, by node id.
        workdir: where artifacts and metadata lie.
        data_fingerprint: of the data's content, for the manifest.
        target: what runs it, and what is different there.
    """
    key = {node: stage.to_json() for node, stage in keys.items()}
    example_gen = ExampleGen(
        None if target.remote else str(workdir.data_settings),
        str(workdir.ledger),
        key["ExampleGen"],
        settings=config.data.model_dump_json() if target.remote else None,
    )
    examples = example_gen.outputs["examples"]
    statistics_gen = StatisticsGen(examples, config.data.statistics_sample, key["StatisticsGen"])
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = _schema(config, statistics, workdir, target)
    schema = schema_gen.outputs["schema"]
    validator = ExampleValidator(statistics, schema, bool(config.data.schema_file), key["ExampleValidator"])
    transform = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn="transform.preprocessing.preprocessing_fn",
        materialize=False,  # examples stay encoded; decoded pixels on disk would be many times their size
        disable_analyzer_cache=True,
        disable_statistics=True,
        custom_config={
            "transform": config.transform.model_dump(mode="json"),
            "fingerprint": key["Transform"],
        },
    )
    transform.add_upstream_node(validator)
    tuner = _tuner(config, examples, transform.outputs["transform_graph"], key, workdir, target)
    base = _base_model(config, examples, transform.outputs["transform_graph"], schema, tuner, key["Trainer"], target)
    trainer = _trainer_class(target)(
        run_fn="trainer.run.run_fn",
        examples=examples,
        transform_graph=transform.outputs["transform_graph"],
        schema=schema,
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        base_model=base.outputs["model"] if base else None,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        custom_config={
            **_training(config, key["Trainer"], {"transform", "model", "train"}, workdir),
            **(target.training_job or {}),
        },
    )
    model = trainer.outputs["model"]
    baseline = _baseline(model, str(workdir.root / config.push.serving), target)
    evaluator = Evaluator(
        examples=examples,
        model=model,
        baseline_model=baseline.outputs["model"],
        eval_config=json_format.MessageToJson(eval_config(config.evaluate), sort_keys=True),
        split=config.evaluate.split,
        top_k=config.evaluate.top_k,
        fingerprint=key["Evaluator"],
    )
    infra_validator = InfraValidator(
        model=model,
        examples=examples,
        split=config.evaluate.split,
        count=config.infra.examples,
        timeout_seconds=config.infra.timeout_seconds,
        fingerprint=key["InfraValidator"],
    )
    manifest = {
        "name": config.name,
        "config_hash": training_config_hash(config),
        "data_fingerprint": data_fingerprint,
    }
    pusher = Pusher(
        model=model,
        examples=examples,
        evaluation=evaluator.outputs["evaluation"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        destination=str(workdir.root / config.push.serving),
        manifest=manifest,
        card=card_settings(config),
        keep=config.push.keep,
        fingerprint=key["Pusher"],
    )
    nodes: list[BaseNode | None] = [
        example_gen, statistics_gen, schema_gen, validator, transform, tuner, base, trainer,
        baseline, evaluator, infra_validator, pusher,
    ]  # fmt: skip
    if config.compress.variants:
        optimizer = Optimizer(
            examples=examples,
            transform_graph=transform.outputs["transform_graph"],
            model=model,
            model_blessing=evaluator.outputs["blessing"],
            compress=config.compress.model_dump_json(),
            evaluate=config.evaluate.model_dump_json(),
            store=str(workdir.compressed),
            fingerprint=key["Optimizer"],
        )
        pushers = [
            pusher_class(
                examples=examples,
                evaluation=evaluator.outputs["evaluation"],
                variants=optimizer.outputs["variants"],
                results=optimizer.outputs["results"],
                model_blessing=evaluator.outputs["blessing"],
                infra_blessing=infra_validator.outputs["blessing"],
                destination=str(workdir.root / folder),
                manifest=manifest,
                card=card_settings(config),
                keep=config.push.keep,
                fingerprint=key[pusher_class.__name__],
            )
            for pusher_class, folder in ((EdgePusher, config.push.edge), (FormPusher, config.push.forms))
        ]
        nodes += [optimizer, *pushers]
    if target.deployment:
        nodes.append(EndpointDeployer(pusher.outputs["pushed_model"], target.deployment))
    if config.bulk_infer.enabled:
        blessing = evaluator.outputs["blessing"]
        nodes.append(BulkInferrer(examples, model, blessing, config.bulk_infer.split, key["BulkInferrer"]))
    return tfx_pipeline.Pipeline(
        pipeline_name=config.name.replace("_", "-") if target.remote else config.name,
        pipeline_root=target.pipeline_root or str(workdir.artifacts),
        components=[node for node in nodes if node is not None],
        enable_cache=True,
        metadata_connection_config=None if target.remote else metadata_connection(config.metadata, workdir),
        beam_pipeline_args=beam_args(config, here=not target.remote),
    )


def _baseline(candidate: Channel, published: str, target: Target) -> BaseNode:
    """Return the node that yields the model to compare the candidate with, if there is one."""
    if target.baseline == "served":
        return ServedBaseline(published, candidate).with_id("Resolver")
    channels = {
        "model": Channel(type=standard_artifacts.Model),
        "model_blessing": Channel(type=standard_artifacts.ModelBlessing),
    }
    if target.baseline == "latest_blessed":
        return Resolver(strategy_class=LatestBlessedModelStrategy, **channels).with_id("Resolver")
    return Resolver(strategy_class=BaselineStrategy, **channels, candidate=candidate).with_id("Resolver")


def _base_model(
    config: Config,
    examples: Channel,
    transform_graph: Channel,
    schema: Channel,
    tuner: BaseNode | None,
    fingerprint: str,
    target: Target,
) -> BaseNode | None:
    """Return the node that yields the model whose weights the training starts with, or none for a cold start."""
    if not config.train.warm_start:
        return None
    if target.remote:
        raise ConfigError(
            "train.warm_start is true, which needs to ask this project's own metadata store what trainings started "
            "from; runs on this target have none. Set it to false (`--set train.warm_start=false`)"
        )
    read = {"hyperparameters": tuner.outputs["best_hyperparameters"]} if tuner else {}
    return Resolver(
        strategy_class=BaseModelStrategy,
        config={"fingerprint": fingerprint, "trainer": f"{Trainer.__module__}.{Trainer.__name__}"},
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
        examples=examples,
        transform_graph=transform_graph,
        schema=schema,
        **read,
    ).with_id("BaseModel")


def _trainer_class(target: Target) -> type[Trainer]:
    """Return the Trainer that trains where it runs, or the one that starts a job of its own."""
    if not target.training_job:
        return Trainer
    from tfx.extensions.google_cloud_ai_platform.trainer import component  # seconds of imports, for Vertex AI alone

    return component.Trainer


def _tuner_class(target: Target) -> type[Tuner]:
    """Return the Tuner that searches where it runs, or the one that starts a job of its own."""
    if not target.tuning_job:
        return Tuner
    from tfx.extensions.google_cloud_ai_platform.tuner import component

    return component.Tuner


def _schema(config: Config, statistics: Channel, workdir: WorkDir, target: Target) -> BaseNode:
    """Return the node that yields the schema: a person's, or the one that the train split suggests."""
    if config.data.schema_file and target.remote:
        return InlineSchema(Path(config.data.schema_file).read_text(encoding="utf-8")).with_id("SchemaGen")
    if config.data.schema_file:
        return ImportSchemaGen(schema_file=str(workdir.keep_schema(config.data.schema_file))).with_id("SchemaGen")
    return SchemaGen(statistics=statistics, infer_feature_shape=True, exclude_splits=["eval", "test"])


def _training(config: Config, fingerprint: str, sections: set[str], workdir: WorkDir) -> dict[str, Any]:
    """Return the `custom_config` of Trainer or Tuner: the sections that it reads, and no others."""
    settings = config.model_dump(mode="json", include=sections)
    return {"settings": settings, "resume": str(workdir.unfinished), "fingerprint": fingerprint}


def _tuner(
    config: Config,
    examples: Channel,
    transform_graph: Channel,
    key: Mapping[str, str],
    workdir: WorkDir,
    target: Target,
) -> BaseNode | None:
    """Return the node that yields hyperparameters: a search, the last search's result, or none."""
    if config.tune.mode == "off":
        return None
    if config.tune.mode == "reuse":
        return Resolver(
            strategy_class=LatestArtifactStrategy,
            best_hyperparameters=Channel(type=standard_artifacts.HyperParameters),
        ).with_id("Tuner")
    return _tuner_class(target)(
        tuner_fn="trainer.run.tuner_fn",
        examples=examples,
        transform_graph=transform_graph,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["eval"]),
        custom_config={
            **_training(config, key["Tuner"], {"transform", "model", "train", "tune"}, workdir),
            **(target.tuning_job or {}),
        },
    )
