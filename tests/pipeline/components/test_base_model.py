"""Which model a training starts from: never its own result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.types import standard_artifacts

from pipeline.components.base_model import BaseModelStrategy
from trainer.handover import FOLDER

TRAINER = "tfx.components.trainer.component.Trainer"


class Trainings:
    """A metadata store with trainings, models and blessings in it."""

    def __init__(self, root: Path):
        config = mlmd.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = MetadataStore(config)
        self.root = root
        self.kind = self.store.put_execution_type(mlmd.ExecutionType(name=TRAINER))
        self.thing = self.store.put_artifact_type(mlmd.ArtifactType(name="Thing"))
        self.models: list[standard_artifacts.Model] = []
        self.blessings: list[standard_artifacts.ModelBlessing] = []
        self.examples = {name: self.artifact() for name in ("span 1", "span 2", "span 3")}

    def artifact(self) -> int:
        (number,) = self.store.put_artifacts([mlmd.Artifact(type_id=self.thing)])
        return number

    def train(self, examples: str, fingerprint: str = "code", state: int = mlmd.Execution.COMPLETE) -> int | None:
        """Resolve the base model and train from it; return the base model's id."""
        base = self.resolve(examples, fingerprint)
        execution = mlmd.Execution(type_id=self.kind, last_known_state=state)
        execution.custom_properties["custom_config"].string_value = json.dumps({"fingerprint": fingerprint})
        model = standard_artifacts.Model()
        model.id, model.uri = self.artifact(), str(self.root / f"{examples} {state} {len(self.models)}")
        (Path(model.uri) / FOLDER).mkdir(parents=True)
        pairs = [("examples", self.examples[examples]), *([("base_model", base)] if base else [])]
        events = [
            mlmd.Event(
                artifact_id=number,
                type=mlmd.Event.INPUT,
                path=mlmd.Event.Path(steps=[mlmd.Event.Path.Step(key=key), mlmd.Event.Path.Step(index=0)]),
            )
            for key, number in pairs
        ]
        self._put(execution, events)
        if state == mlmd.Execution.COMPLETE:
            self.models.append(model)
        return base

    def _put(self, execution: mlmd.Execution, events: list[mlmd.Event]) -> None:
        (number,) = self.store.put_executions([execution])
        for event in events:
            event.execution_id = number
        self.store.put_events(events)

    def bless(self, model: int, blessed: bool = True) -> None:
        blessing = standard_artifacts.ModelBlessing()
        blessing.id = self.artifact()
        blessing.set_int_custom_property("blessed", int(blessed))
        blessing.set_int_custom_property("current_model_id", model)
        self.blessings.append(blessing)

    def resolve(self, examples: str, fingerprint: str = "code") -> int | None:
        given = standard_artifacts.Examples()
        given.id = self.examples[examples]
        found = BaseModelStrategy(fingerprint, TRAINER).resolve_artifacts(
            self.store, {"model": self.models, "model_blessing": self.blessings, "examples": [given]}
        )
        assert found["examples"] == [given]
        return found["model"][0].id if found["model"] else None

    @property
    def newest(self) -> int:
        return self.models[-1].id


@pytest.fixture
def trainings(tmp_path) -> Trainings:
    return Trainings(tmp_path)


def test_the_first_training_starts_from_nothing(trainings):
    assert trainings.train("span 1") is None


def test_a_model_that_was_not_blessed_is_no_start(trainings):
    trainings.train("span 1")
    trainings.bless(trainings.newest, blessed=False)
    assert trainings.resolve("span 2") is None


def test_new_data_starts_from_the_last_blessed_model(trainings):
    trainings.train("span 1")
    trainings.bless(trainings.newest)
    first = trainings.newest
    assert trainings.train("span 2") == first
    trainings.bless(trainings.newest, blessed=False)
    assert trainings.resolve("span 3") == first


def test_the_start_of_an_unchanged_training_stays_when_its_model_is_blessed(trainings):
    trainings.train("span 1")
    trainings.bless(trainings.newest)
    assert trainings.resolve("span 1") is None
    first = trainings.newest
    trainings.train("span 2")
    trainings.bless(trainings.newest)
    assert trainings.resolve("span 2") == first
    assert trainings.resolve("span 1") is None


def test_other_code_or_settings_are_another_training(trainings):
    trainings.train("span 1")
    trainings.bless(trainings.newest)
    assert trainings.resolve("span 1", "other code") == trainings.newest


def test_a_training_that_failed_has_decided_nothing(trainings):
    trainings.train("span 1")
    trainings.bless(trainings.newest)
    trainings.train("span 2", state=mlmd.Execution.FAILED)
    trainings.train("span 3")
    trainings.bless(trainings.newest)
    assert trainings.resolve("span 2") == trainings.newest


def test_a_blessed_model_whose_weights_are_gone_is_passed_over(trainings):
    trainings.train("span 1")
    trainings.bless(trainings.newest)
    first = trainings.newest
    trainings.train("span 2")
    trainings.bless(trainings.newest)
    (Path(trainings.models[-1].uri) / FOLDER).rmdir()
    assert trainings.resolve("span 3") == first
