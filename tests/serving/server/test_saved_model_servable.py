"""A SavedModel as a servable: the right codes, no aborts, and no Session closed below a call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.server.loading import LoadOptions
from serving.server.saved_model_servable import RunningCalls, SavedModelServable, is_batchable
from serving.server.status import Code, StatusError
from tests.serving.saved_models import encode_png, picture, to_example
from tests.serving.server.engines import signature, spec
from tests.serving.server.waiting import eventually

IMAGE = picture(0)[None]


@pytest.fixture(scope="module")
def servable(classifier_dir: Path) -> Iterator[SavedModelServable]:
    """The classifier, loaded."""
    loaded = SavedModelServable.load(classifier_dir, LoadOptions())
    yield loaded
    loaded.close()


def encoded(*items: bytes) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_signatures_agree_with_each_other(servable: SavedModelServable) -> None:
    assert servable.batchable == dict.fromkeys(
        ["classify", "predict_examples", "predict_uint8", "serving_default"], True
    )
    png = encode_png(picture(0))
    by_bytes = servable.run("serving_default", {"image_bytes": encoded(png)})
    by_pixels = servable.run("predict_uint8", {"image": IMAGE})
    by_example = servable.run("classify", {"inputs": encoded(to_example(png))})
    assert by_bytes["label"].dtype == object
    assert isinstance(by_bytes["label"][0], bytes)
    np.testing.assert_allclose(by_bytes["probabilities"], by_pixels["probabilities"], atol=1e-6)
    np.testing.assert_allclose(by_example["scores"], by_pixels["probabilities"], atol=1e-6)


def test_only_the_outputs_asked_for_in_their_order(servable: SavedModelServable) -> None:
    outputs = servable.run("predict_uint8", {"image": IMAGE}, ["label", "class_id"])
    assert list(outputs) == ["label", "class_id"]


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "code", "text"),
    [
        ("serving_default", {"image_bytes": encoded(b"x")}, None, Code.INVALID_ARGUMENT, "Unknown image file format"),
        ("classify", {"inputs": encoded(b"x")}, None, Code.INVALID_ARGUMENT, "Could not parse example input"),
        ("nothing", {}, None, Code.INVALID_ARGUMENT, "no signature 'nothing'"),
        ("predict_uint8", {"image": IMAGE}, ["nothing"], Code.INVALID_ARGUMENT, "no output 'nothing'"),
        ("predict_uint8", {}, None, Code.INVALID_ARGUMENT, "Missing named input: image"),
        (
            "predict_uint8",
            {"image": IMAGE.astype(np.float32)},
            None,
            Code.INVALID_ARGUMENT,
            "Expects arg[0] to be uint8",
        ),
        # TensorFlow itself aborts the process on an image without batch dimension.
        ("predict_uint8", {"image": IMAGE[0]}, None, Code.INVALID_ARGUMENT, "Input image has shape [8,8,3]"),
        ("predict_uint8", {"image": IMAGE[:, :4]}, None, Code.INVALID_ARGUMENT, "Input image has shape [1,4,8,3]"),
    ],
)
def test_calls_that_fail(
    servable: SavedModelServable, name: str, inputs: Any, outputs: Any, code: Code, text: str
) -> None:
    with pytest.raises(StatusError) as caught:
        servable.run(name, inputs, outputs)
    assert caught.value.code is code
    assert text in caught.value.message


def test_metadata_shows_every_signature(servable: SavedModelServable) -> None:
    shown = servable.signature_defs().signature_def
    assert set(shown) == {*servable.signatures, "__saved_model_init_op"}
    info = shown["predict_uint8"].inputs["image"]
    assert [dim.size for dim in info.tensor_shape.dim] == [-1, 8, 8, 3]
    assert info.name == servable.signatures["predict_uint8"].inputs["image"].tensor


def test_zero_rows_do_no_harm(servable: SavedModelServable) -> None:
    # Batch normalization of TensorFlow cannot take them; what matters is that nothing else suffers.
    with pytest.raises(StatusError) as caught:
        servable.run("predict_uint8", {"image": IMAGE[:0]})
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert servable.run("predict_uint8", {"image": IMAGE})["probabilities"].shape == (1, 3)


def test_closing_waits_for_calls_and_refuses_new_ones(classifier_dir: Path) -> None:
    servable = SavedModelServable.load(classifier_dir, LoadOptions())
    begun, go_on = threading.Event(), threading.Event()
    prepare = servable._model.prepare

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return prepare(*arguments)

    servable._model.prepare = slow  # type: ignore[method-assign]
    answers: list[Any] = []
    call = threading.Thread(target=lambda: answers.append(servable.run("predict_uint8", {"image": IMAGE})))
    call.start()
    assert begun.wait(60)
    closing = threading.Thread(target=servable.close)
    closing.start()
    eventually(lambda: servable._running._stopped)
    with pytest.raises(StatusError, match="was unloaded") as caught:
        servable.run("predict_uint8", {"image": IMAGE})
    assert caught.value.code is Code.UNAVAILABLE
    assert closing.is_alive()
    go_on.set()
    for thread in (call, closing):
        thread.join(60)
    assert answers[0]["probabilities"].shape == (1, 3)
    servable.close()


def test_a_call_that_fails_does_not_hold_up_closing() -> None:
    calls = RunningCalls("x")
    with pytest.raises(ZeroDivisionError), calls:
        _ = 1 / 0
    calls.stop()


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ([(None, 3)], [(None,)], True),
        ([(None, 3), (None,)], [(None, None)], True),
        ([(1, 3)], [(None,)], False),
        ([(None, 3)], [(1,)], False),
        ([(None, 3)], [()], False),
        ([None], [(None,)], False),
        ([(None, 3), ()], [(None,)], False),
        ([], [(None,)], False),
    ],
)
def test_batchable(inputs: list[Any], outputs: list[Any], expected: bool) -> None:
    made = signature(
        inputs=[spec(f"x{n}", shape) for n, shape in enumerate(inputs)],
        outputs=[spec(f"y{n}", shape) for n, shape in enumerate(outputs)],
    )
    assert is_batchable(made) is expected


def test_threads_do_not_stay_awake_for_requests_that_may_never_come(servable: SavedModelServable) -> None:
    assert servable._model._session._config.experimental.disable_thread_spinning
