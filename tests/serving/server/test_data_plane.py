"""The data plane on a stand-in model: checks, answers, counts and observers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.server.batching import Batcher
from serving.server.data_plane import DataPlane, PlaneOptions
from serving.server.examples_api import CLASSIFY, REGRESS, Classification, Task
from serving.server.status import Code, StatusError
from tests.serving.server.engines import Engine, FakeHandle, signature, spec

EXAMPLES = (spec("inputs", (None,), "string"),)
FLOATS = {"x": np.ones((2, 3), np.float32)}


class Metrics:
    """Keeps what was counted."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def runtime(self, model_name: str, api: str, microseconds: float) -> None:
        assert microseconds > 0
        self.seen.append(("runtime", model_name, api))

    def examples(self, model_name: str, count: int) -> None:
        self.seen.append(("examples", model_name, count))

    def batch(self, model_name: str, rows: int, padding: int, queued: list[float], run: float) -> None:
        assert len(queued) == 1 and min(*queued, run) >= 0
        self.seen.append(("batch", model_name, rows, padding))


class Watcher:
    """Keeps what was answered."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def answered(self, handle: Any, kind: str, name: str, inputs: Any, outputs: Any) -> None:
        self.seen.append((handle.name, kind, name, sorted(inputs), sorted(outputs)))


def give(inputs: Any) -> dict[str, np.ndarray]:
    if "x" in inputs:
        return {"y": 2 * inputs["x"]}
    rows = len(inputs["inputs"])
    return {
        "classes": np.array([[b"a", b"b"]] * rows, object),
        "scores": np.tile(np.array([[0.25, 0.75]], np.float32), (rows, 1)),
        "outputs": np.arange(rows, dtype=np.float32),
    }


@pytest.fixture()
def engine() -> Engine:
    """A model with a signature of each kind."""
    made = Engine(
        signature(),
        signature("classify", EXAMPLES, (spec("classes", (None, 2), "string"), spec("scores", (None, 2)))),
        signature("regress", EXAMPLES, (spec("outputs", (None,)),), REGRESS),
    )
    made.answer = give
    return made


@pytest.fixture()
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture()
def plane(metrics: Metrics) -> Iterator[DataPlane]:
    """A data plane that counts."""
    batcher = Batcher(metrics=metrics)  # type: ignore[arg-type]
    yield DataPlane(batcher, metrics)  # type: ignore[arg-type]
    batcher.close()


def call(plane: DataPlane, blocking: bool, name: str, *arguments: Any) -> Any:
    """Call one of the two forms of a method."""
    if blocking:
        return getattr(plane, f"{name}_blocking")(*arguments)
    return asyncio.run(getattr(plane, name)(*arguments))


@pytest.mark.parametrize("blocking", [False, True])
def test_each_call_is_answered_counted_and_shown(
    plane: DataPlane, engine: Engine, metrics: Metrics, blocking: bool
) -> None:
    watcher, handle = Watcher(), FakeHandle(engine)
    plane.observers.append(watcher)
    assert call(plane, blocking, "predict", handle, "", FLOATS)["y"].tolist() == [[2.0] * 3] * 2
    assert call(plane, blocking, "classify", handle, "classify", [b"1"]) == Classification([["a", "b"]], [[0.25, 0.75]])
    assert call(plane, blocking, "regress", handle, "regress", [b"1", b"2"]) == [0.0, 1.0]
    tasks = [Task("regress", REGRESS), Task("classify", CLASSIFY)]
    assert call(plane, blocking, "multi_inference", handle, tasks, [b"1"]) == [
        [0.0],
        Classification([["a", "b"]], [[0.25, 0.75]]),
    ]
    assert watcher.seen[:3] == [
        ("pets", "Predict", "serving_default", ["x"], ["y"]),
        ("pets", "Classify", "classify", ["inputs"], ["classes", "outputs", "scores"]),
        ("pets", "Regress", "regress", ["inputs"], ["classes", "outputs", "scores"]),
    ]
    assert {entry[1] for entry in watcher.seen[3:]} == {"MultiInference"}
    assert [entry for entry in metrics.seen if entry[0] == "examples"] == [
        ("examples", "pets", 1), ("examples", "pets", 2), ("examples", "pets", 1),
    ]  # fmt: skip
    assert [entry[2] for entry in metrics.seen if entry[0] == "runtime"] == [
        "Predict", "Classify", "Regress", "MultiInference", "MultiInference",
    ]  # fmt: skip
    assert ("batch", "pets", 2, 0) in metrics.seen
    assert [outputs for _, _, outputs in engine.runs[:3]] == [None, ("classes", "scores"), ("outputs",)]
    assert handle.released == 0


def test_futures_are_counted_and_shown_before_their_callbacks_run(
    plane: DataPlane, engine: Engine, metrics: Metrics
) -> None:
    plane.observers.append(watcher := Watcher())
    seen: list[int] = []
    done = threading.Event()
    with engine.held():
        future = plane.predict_future(FakeHandle(engine), "", FLOATS, ["y"])
        cancelled = plane.predict_future(FakeHandle(engine), "", FLOATS)
        assert cancelled.cancel()
        future.add_done_callback(lambda _: (seen.append(len(watcher.seen)), done.set()))
    assert future.result(60)["y"].shape == (2, 3)
    assert done.wait(60)
    assert seen == [1]
    assert [entry[0] for entry in metrics.seen].count("runtime") == 1
    with pytest.raises(StatusError, match='"no" not found'):
        plane.predict_future(FakeHandle(engine), "no", FLOATS)


@pytest.mark.parametrize("outputs", [["y"], ("y",), [], None])
def test_output_filter(plane: DataPlane, engine: Engine, outputs: Any) -> None:
    asyncio.run(plane.predict(FakeHandle(engine), "serving_default", FLOATS, outputs))
    assert engine.runs[0][2] == (("y",) if outputs else None)


@pytest.mark.parametrize(
    ("method", "arguments", "code", "text"),
    [
        ("predict", ["no", FLOATS], Code.FAILED_PRECONDITION, 'Serving signature key "no" not found.'),
        ("predict", ["", {}], Code.INVALID_ARGUMENT, "input size does not match signature: 0!=1"),
        ("predict", ["", {"x": np.ones((1, 1))}], Code.INVALID_ARGUMENT, "Expects arg[0] to be float but double"),
        ("predict", ["", {"x": np.ones(1, np.float32)}], Code.INVALID_ARGUMENT, "Input x has shape [1]"),
        ("predict", ["", FLOATS, ["z"]], Code.INVALID_ARGUMENT, "output tensor alias not found in signature: z"),
        ("predict", ["", FLOATS, None, 1.0], Code.DEADLINE_EXCEEDED, "Run() timeout exceeded"),
        ("classify", ["no", [b"1"]], Code.INVALID_ARGUMENT, "No signature was found with the name: no"),
        ("classify", ["", [b"1"]], Code.FAILED_PRECONDITION, "No classification inputs found in SignatureDef: "),
        ("classify", ["classify", []], Code.INVALID_ARGUMENT, "Input is empty."),
        ("regress", ["classify", [b"1"]], Code.INVALID_ARGUMENT, "Expected one output Tensor."),
        ("multi_inference", [[Task("no", CLASSIFY)], [b"1"]], Code.INVALID_ARGUMENT, "Requested signature not found"),
        ("multi_inference", [[Task("classify", CLASSIFY)], []], Code.INVALID_ARGUMENT, "Input is empty."),
    ],
)
@pytest.mark.parametrize("blocking", [False, True])
def test_requests_that_do_not_fit_never_reach_the_model(
    plane: DataPlane, engine: Engine, blocking: bool, method: str, arguments: list[Any], code: Code, text: str
) -> None:
    plane.observers.append(watcher := Watcher())
    with pytest.raises(StatusError) as caught:
        call(plane, blocking, method, FakeHandle(engine), *arguments)
    assert caught.value.code is code
    assert caught.value.message.startswith(text)
    assert (engine.runs, watcher.seen) == ([], [])


def test_inputs_with_defaults_may_be_left_out(plane: DataPlane) -> None:
    default = np.full((2, 3), 5, np.float32)
    engine = Engine(signature(inputs=(spec("x", (None, None)), spec("z", (None, None))), defaults={"z": default}))
    asyncio.run(plane.predict(FakeHandle(engine), "", FLOATS))
    assert engine.runs[0][1]["z"] is default


def test_method_names_are_checked_only_where_asked(engine: Engine) -> None:
    strict = DataPlane(Batcher(), options=PlaneOptions(check_method_names=True))
    engine.signatures["odd"] = signature("odd", method="some/thing")
    engine.batchable["odd"] = True
    for plane, works in ((DataPlane(Batcher()), True), (strict, False)):
        calls = [("predict", ["odd", FLOATS], Code.INTERNAL), ("classify", ["classify", [b"1"]], Code.INVALID_ARGUMENT)]
        for method, arguments, code in calls:
            if works:
                call(plane, False, method, FakeHandle(engine), *arguments)
                continue
            with pytest.raises(StatusError, match="signature method_name to be") as caught:
                call(plane, False, method, FakeHandle(engine), *arguments)
            assert caught.value.code is code
        assert call(plane, False, "regress", FakeHandle(engine), "regress", [b"1"]) == [0.0]
        plane.batcher.close()


def test_an_observer_that_fails_costs_nobody_an_answer(
    plane: DataPlane, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def answered(self, *_: Any) -> None:
            raise OSError("disk full")

    plane.observers += [Broken(), watcher := Watcher()]
    with caplog.at_level(logging.ERROR, "slipway.serving"):
        assert asyncio.run(plane.predict(FakeHandle(engine), "", FLOATS))["y"].shape == (2, 3)
    assert len(watcher.seen) == 1
    assert "disk full" in caplog.text
