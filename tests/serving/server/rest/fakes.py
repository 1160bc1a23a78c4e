"""A server core without models: what the REST API asks for, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.server.examples_api import Classification
from serving.server.metrics import ServerMetrics
from serving.server.model_spec import ModelSpec
from serving.server.rest.app import RestApp, rest_app
from serving.server.rest.options import RestOptions
from serving.server.servable import VersionState
from serving.server.status import Code, StatusError
from tests.serving.server.engines import Engine, FakeHandle, signature, spec


class Plane:
    """Answers Predict with twice `x`, or with what `outputs` says.

    Attributes:
        calls: Kind, signature, inputs and deadline of each call.
        gate: Calls wait until it is set.
        cancelled: How many calls were cancelled while they waited.
        error: Raised in place of an answer.
        outputs: Given in place of an answer.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any, float | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self.error: Exception | None = None
        self.outputs: dict[str, np.ndarray] | None = None

    async def _turn(self, kind: str, name: str, inputs: Any, deadline: float | None) -> None:
        self.calls.append((kind, name, inputs, deadline))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error

    async def predict(
        self,
        handle: Any,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> dict[str, np.ndarray]:
        await self._turn("predict", signature, inputs, deadline)
        if self.outputs is not None:
            return self.outputs
        array = next(iter(inputs.values()))
        return {"y": np.array([len(item) for item in array.flat]) if array.dtype == object else 2 * array}

    async def classify(
        self, handle: Any, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> Classification:
        await self._turn("classify", signature, list(examples), deadline)
        return Classification([[b"cat", b"dog"] for _ in examples], [[0.25, 0.75] for _ in examples])  # type: ignore[list-item]

    async def regress(
        self, handle: Any, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> list[float]:
        await self._turn("regress", signature, list(examples), deadline)
        return [0.5 for _ in examples]


class PetModels:
    """One model `pets` with the versions 1 and 2, label `stable` on version 1."""

    def __init__(self) -> None:
        images = signature("images", inputs=[spec("image_bytes", (None,), "string")])
        engine = Engine(signature(inputs=[spec("x", (None,))]), images)
        self.handles = {version: FakeHandle(engine, "pets", version) for version in (1, 2)}
        self.acquired = 0

    def acquire(self, spec: ModelSpec) -> FakeHandle:
        version = {"stable": 1}.get(spec.label or "", spec.version if spec.version is not None else 2)
        if spec.label is not None and spec.label != "stable":
            raise StatusError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.label}")
        if spec.name != "pets" or version not in self.handles:
            asked = f"Latest({spec.name})" if spec.version is None else f"Specific({spec.name}, {spec.version})"
            raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {asked}")
        self.acquired += 1
        return self.handles[version]

    def states(self, spec: ModelSpec) -> list[VersionState]:
        if spec.name != "pets":
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return [VersionState(version, "AVAILABLE", Code.OK, "") for version in (2, 1)]

    def reload(self, config: Any) -> None:
        raise NotImplementedError

    @property
    def released(self) -> int:
        return sum(handle.released for handle in self.handles.values())


class Core:
    """A REST app on stand-ins; make it inside a running event loop."""

    def __init__(self, **options: Any) -> None:
        self.plane = Plane()
        self.models = PetModels()
        self.metrics = ServerMetrics()
        self.app: RestApp = rest_app(self.plane, self.models, self.metrics, RestOptions(**options))  # type: ignore[arg-type]

    def count(self, line: str) -> float:
        """Value of a sample, given as `name{labels}`; 0 if there is none."""
        for found in self.metrics.exposition().decode().splitlines():
            name, _, value = found.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0
