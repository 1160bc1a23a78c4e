"""The whole config: one field per section of the YAML file.

`loading` builds it from a file and overrides; every stage receives the sections it reads.
"""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from pipeline.config.airflow import AirflowSettings
from pipeline.config.beam import BeamSettings
from pipeline.config.card import CardSettings
from pipeline.config.compress import CompressSettings
from pipeline.config.kubeflow import KubeflowSettings
from pipeline.config.metadata_store import MetadataSettings
from pipeline.config.retrain import RetrainSettings
from pipeline.config.sections import BulkInferSettings, EvaluateSettings, InfraSettings, PushSettings
from pipeline.config.vertex import VertexSettings
from trainer.settings import ModelSettings, TrainSettings, TuneSettings
from transform.settings import DataSettings, ImageSettings, Settings

NAME_PATTERN = r"[a-z0-9][a-z0-9_-]{0,62}"
"""What a pipeline may be called: the name becomes folder names, a metadata context and a job id."""

SOURCES_WITHOUT_SPLITS = frozenset({"digits"})
"""Sources whose splits come from `data.split` alone; a folder may bring a test split of its own."""


class Config(Settings):
    """One pipeline, from the data to the pushed model; typed, frozen and strict."""

    name: str = Field(description="name of the pipeline: lowercase letters, digits, - and _, at most 63 characters")
    data: DataSettings = Field(description="where the examples come from and which of them are taken")
    transform: ImageSettings = Field(description="what every image is turned into before the model sees it")
    model: ModelSettings = Field(default_factory=ModelSettings, description="which network is trained")
    train: TrainSettings = Field(default_factory=TrainSettings, description="how the network is fitted")
    tune: TuneSettings = Field(default_factory=TuneSettings, description="the search for hyperparameters before it")
    evaluate: EvaluateSettings = Field(
        default_factory=EvaluateSettings, description="how the model is judged and what it must reach"
    )
    compress: CompressSettings = Field(
        default_factory=CompressSettings, description="the forms in which it ships, and what each must prove"
    )
    infra: InfraSettings = Field(default_factory=InfraSettings, description="how it proves that it can be served")
    push: PushSettings = Field(default_factory=PushSettings, description="where it is published")
    card: CardSettings = Field(
        default_factory=CardSettings, description="what people should know about the model, for the card that ships"
    )
    bulk_infer: BulkInferSettings = Field(
        default_factory=BulkInferSettings, description="whether it predicts a whole split at the end"
    )
    retrain: RetrainSettings = Field(default_factory=RetrainSettings, description="what starts the next run")
    metadata: MetadataSettings = Field(
        default_factory=MetadataSettings, description="where it is written down what runs did"
    )
    beam: BeamSettings = Field(default_factory=BeamSettings, description="what runs the data stages")
    airflow: AirflowSettings = Field(default_factory=AirflowSettings, description="how Airflow runs the pipeline")
    vertex: VertexSettings = Field(default_factory=VertexSettings, description="how Vertex AI runs the pipeline")
    kubeflow: KubeflowSettings = Field(
        default_factory=KubeflowSettings, description="how Kubeflow Pipelines runs the pipeline"
    )

    @field_validator("name")
    @classmethod
    def _name_is_usable(cls, name: str) -> str:
        if not re.fullmatch(NAME_PATTERN, name):
            raise ValueError(
                f"received {name!r}; expected 1 to 63 lowercase letters, digits, '-' and '_', "
                "starting with a letter or digit"
            )
        return name

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        problems = cross_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self


def cross_problems(config: Config) -> list[str]:
    """Return what does not fit together in sections that are valid by themselves.

    Args:
        config: sections that have been validated one by one.

    Returns:
        One sentence each, which starts with the path of the value to change.
    """
    problems = []
    readers = {"evaluate.split": config.evaluate.split}
    if config.bulk_infer.enabled:
        readers["bulk_infer.split"] = config.bulk_infer.split
    if config.compress.variants:
        readers["compress.choose_split"] = config.compress.choose_split
        readers["compress.report_split"] = config.compress.report_split
    for path, split in readers.items():
        if split == "test" and config.data.split.test == 0 and config.data.source in SOURCES_WITHOUT_SPLITS:
            problems.append(f"{path} is test, but data.split.test is 0; give test a share, or choose the eval split")
    return problems
