"""A gRPC API in this process, with models that are plain functions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from serving.server.examples_api import CLASSIFY, Classification, Task
from serving.server.grpc_api.options import GrpcOptions
from serving.server.grpc_api.server import GrpcServer, start_grpc
from serving.server.model_spec import ModelSpec
from serving.server.servable import VersionState
from serving.server.status import Code, StatusError
from serving.signature import Signature
from serving.wire.messages import SignatureDefMap

Run = Callable[[str, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def echo(signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(inputs)


class FakeServable:
    signatures: Mapping[str, Signature] = {}

    def signature_defs(self) -> Any:
        defs = SignatureDefMap()
        signature = defs.signature_def["serving_default"]
        signature.method_name = "tensorflow/serving/predict"
        for names, dtype in ((signature.inputs, 1), (signature.outputs, 1)):
            names["x"].name = "x:0"
            names["x"].dtype = dtype
            names["x"].tensor_shape.dim.add().size = -1
        return defs


@dataclass
class FakeHandle:
    name: str
    version: int
    owner: FakeModels
    servable: FakeServable = field(default_factory=FakeServable)

    def release(self) -> None:
        self.owner.held -= 1

    def __enter__(self) -> FakeHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class FakeModels:
    """One model `echo` with the versions 2 and 3 and the label `canary` on 3."""

    def __init__(self) -> None:
        self.held = 0
        self.configs: list[Any] = []
        self.refuse: StatusError | None = None

    def acquire(self, spec: ModelSpec) -> FakeHandle:
        if not spec.name:
            raise StatusError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        if spec.label not in (None, "canary"):
            raise StatusError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.label}")
        version = 3 if spec.version is None else spec.version
        if spec.name != "echo" or version not in (0, 2, 3):
            asked = f"Latest({spec.name})" if spec.version is None else f"Specific({spec.name}, {version})"
            raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {asked}")
        self.held += 1
        return FakeHandle(spec.name, version, self)

    def states(self, spec: ModelSpec) -> list[VersionState]:
        if spec.name != "echo":
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return [
            VersionState(3, "AVAILABLE", Code.OK, ""),
            VersionState(2, "END", Code.DATA_LOSS, "variables are truncated"),
        ]

    def reload(self, config: Any) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.configs.append(config)


class FakePlane:
    """Runs a function in a thread; remembers what it was asked."""

    def __init__(self, run: Run = echo) -> None:
        self.run = run
        self.pool = concurrent.futures.ThreadPoolExecutor(8)
        self.calls: list[tuple[str, str, Any, Sequence[str] | None, float | None]] = []

    def predict_future(
        self,
        handle: Any,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
        deadline: float | None = None,
    ) -> concurrent.futures.Future[dict[str, np.ndarray]]:
        self.calls.append(("Predict", signature, inputs, outputs, deadline))
        future: concurrent.futures.Future[dict[str, np.ndarray]] = concurrent.futures.Future()

        def work() -> None:
            try:
                found = self.run(signature, inputs)
            except StatusError as error:
                if not future.done():
                    future.set_exception(error)
                return
            if not future.done():
                future.set_result({name: found[name] for name in outputs or found})

        self.pool.submit(work)
        return future

    async def classify(
        self, handle: Any, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> Classification:
        self.calls.append(("Classify", signature, examples, None, deadline))
        _check(examples)
        return Classification([["cat", "dog"]] * len(examples), [[0.25, 0.75]] * len(examples))

    async def regress(
        self, handle: Any, signature: str, examples: Sequence[bytes], deadline: float | None = None
    ) -> list[float]:
        self.calls.append(("Regress", signature, examples, None, deadline))
        _check(examples)
        return [float(len(example)) for example in examples]

    async def multi_inference(
        self, handle: Any, tasks: Sequence[Task], examples: Sequence[bytes], deadline: float | None = None
    ) -> list[Classification | list[float]]:
        self.calls.append(("MultiInference", "", (tasks, examples), None, deadline))
        return [
            Classification(None, [[0.5]] * len(examples)) if task.method == CLASSIFY else [1.5] * len(examples)
            for task in tasks
        ]


def _check(examples: Sequence[bytes]) -> None:
    if not examples:
        raise StatusError(Code.INVALID_ARGUMENT, "Input is empty.")


class FakeMetrics:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, Code]] = []
        self.scrapes = 0

    def request(self, model_name: str, api: str, entrypoint: str, status: Code, microseconds: float) -> None:
        assert microseconds > 0
        self.requests.append((model_name, api, entrypoint, status))

    def exposition(self) -> bytes:
        self.scrapes += 1
        return f':tensorflow:serving:request_count{{model_name="echo",status="OK"}} {40 + self.scrapes}\n'.encode()


class RunningGrpc:
    """The API on an event loop in a thread."""

    def __init__(self, plane: Any = None, models: Any = None, **options: Any) -> None:
        self.plane = plane if plane is not None else FakePlane()
        self.models = models if models is not None else FakeModels()
        self.metrics = FakeMetrics()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        options.setdefault("addresses", ("127.0.0.1:0",))
        try:
            self.server: GrpcServer = self.run(
                start_grpc(self.plane, self.models, self.metrics, GrpcOptions(**options))  # type: ignore[arg-type]
            )
        except BaseException:
            self._end()
            raise
        self.target = f"127.0.0.1:{self.server.port}"

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self, grace_seconds: float = 5.0) -> None:
        if self.thread.is_alive():
            self.run(self.server.stop(grace_seconds))
            self._end()

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def __enter__(self) -> RunningGrpc:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
