"""The model from which a training starts: the one that was blessed last, or the one that this same training had before.

Once a training is over and its model blessed, that model is the latest blessed one. A resolver that took it would make
the next run train on the same data again, from its own result, and so on without end. So the same training (equal
settings, code and data) gets the answer that it got the first time, which the metadata store knows: nothing it depends
on has changed, and the cache holds its model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver

from trainer.handover import FOLDER

_INPUTS = (metadata_store_pb2.Event.INPUT, metadata_store_pb2.Event.DECLARED_INPUT)
_DONE = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
_BASE = "base_model"
_RESULT = "model"


class BaseModelStrategy(resolver.ResolverStrategy):
    """Resolves `model` to the model whose weights a training starts with, or to nothing.

    Args:
        fingerprint: the training's own: code, settings, libraries.
        trainer: the type name of the node that trains.
    """

    def __init__(self, fingerprint: str, trainer: str) -> None:
        self._fingerprint = fingerprint
        self._trainer = trainer

    def resolve_artifacts(
        self, store: mlmd.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Choose the base model.

        Args:
            store: the metadata store, asked for what earlier trainings started from.
            input_dict: `model` and `model_blessing` (all that there are), and what the training reads besides, under
                the names that the trainer gives it.

        Returns:
            The same keys; `model` and `model_blessing` are empty where the training starts from nothing.
        """
        read = {key: value for key, value in input_dict.items() if key not in (_RESULT, "model_blessing")}
        wanted = {key: [artifact.id for artifact in value] for key, value in read.items()}
        models = {artifact.id: artifact for artifact in input_dict[_RESULT]}
        nothing: dict[str, list[types.Artifact]] = {**read, _RESULT: [], "model_blessing": []}
        before = self._start_of_the_same(store, wanted)
        if before is not None:
            return {**nothing, _RESULT: [models[number] for number in before if number in models]}
        blessings = sorted(input_dict["model_blessing"], key=lambda artifact: artifact.id, reverse=True)
        for blessing in blessings:
            number = blessing.get_int_custom_property("current_model_id")
            if blessing.get_int_custom_property("blessed") == 1 and number in models and _usable(models[number]):
                return {**nothing, _RESULT: [models[number]], "model_blessing": [blessing]}
        return nothing

    def _start_of_the_same(self, store: mlmd.MetadataStore, wanted: dict[str, list[int]]) -> list[int] | None:
        """Return the ids of the base model of the newest finished training that is this one; None if there is none.

        A training is the same if its fingerprint and all that it read are, the base model aside.
        """
        same = [
            execution
            for execution in store.get_executions_by_type(self._trainer)
            if execution.last_known_state in _DONE and _fingerprint(execution) == self._fingerprint
        ]
        if not same:
            return None
        inputs = _inputs(store.get_events_by_execution_ids([execution.id for execution in same]))
        for execution in sorted(same, key=lambda e: int(e.id), reverse=True):
            found = inputs.get(execution.id, {})
            if all(found.get(key, []) == ids for key, ids in wanted.items()):
                return found.get(_BASE, [])
        return None


def _usable(model: types.Artifact) -> bool:
    """Return whether the weights are still there; a model whose folder was cleared away can't be started from."""
    return os.path.isdir(os.path.join(model.uri, FOLDER))


def _fingerprint(execution: metadata_store_pb2.Execution) -> str | None:
    try:
        return str(json.loads(execution.custom_properties["custom_config"].string_value)["fingerprint"])
    except (KeyError, ValueError, TypeError):
        return None


def _inputs(events: Iterable[Any]) -> dict[int, dict[str, list[int]]]:
    """Return the ids of each execution's input artifacts by key, in the order in which they were given."""
    found: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for event in events:
        if event.type in _INPUTS and event.path.steps:
            place = event.path.steps[1].index if len(event.path.steps) > 1 else 0
            key = event.path.steps[0].key
            found.setdefault(event.execution_id, {}).setdefault(key, []).append((place, event.artifact_id))
    return {execution: {key: _ordered(pairs) for key, pairs in keys.items()} for execution, keys in found.items()}


def _ordered(pairs: Sequence[tuple[int, int]]) -> list[int]:
    return [artifact for _, artifact in sorted(pairs)]
