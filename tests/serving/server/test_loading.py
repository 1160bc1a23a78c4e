"""A version is ready only after its warm-up requests were answered."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import ModelLoadError, ServingError
from serving.server.loading import LoadOptions, load, load_servable
from serving.server.saved_model_servable import SavedModelServable
from serving.server.status import Code, StatusError
from serving.server.tflite_servable import TfliteServable
from serving.warmup import MAX_RECORDS, WARMUP_FILE
from tests.serving.saved_models import encode_png, picture, to_example


def write_warmup(directory: Path, *logs: Any) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(directory / WARMUP_FILE)) as writer:
        for log in logs:
            writer.write(log if isinstance(log, bytes) else log.SerializeToString())


def predict_log(name: str, array: np.ndarray, outputs: tuple[str, ...] = (), signature: str = "predict_uint8") -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.output_filter.extend(outputs)
    request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return log


def multi_log() -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.multi_inference_log.request
    request.tasks.add(method_name="tensorflow/serving/classify").model_spec.signature_name = "classify"
    # The context carries the image, the examples nothing: only merged do they make sense.
    held = request.input.example_list_with_context
    held.context.ParseFromString(to_example(encode_png(picture(0))))
    held.examples.add().CopyFrom(tf.train.Example())
    return log


def test_the_warm_up_is_replayed(classifier_dir: Path) -> None:
    loaded = load(classifier_dir, LoadOptions())
    assert isinstance(loaded.servable, SavedModelServable)
    assert loaded.warmup_requests == 2
    assert loaded.warmup_seconds is not None and loaded.warmup_seconds > 0
    assert loaded.load_seconds > 0
    loaded.servable.close()


def test_the_warm_up_can_be_left_out(classifier_copy: Path) -> None:
    (classifier_copy / WARMUP_FILE).write_bytes(b"damaged")
    loaded = load(classifier_copy, LoadOptions(warmup=False))
    assert (loaded.warmup_requests, loaded.warmup_seconds) == (0, None)
    loaded.servable.close()


def test_a_model_without_warm_up_loads(classifier_copy: Path) -> None:
    (classifier_copy / WARMUP_FILE).unlink()
    servable = load_servable(classifier_copy, LoadOptions())
    assert servable.run("predict_uint8", {"image": picture(0)[None]})["probabilities"].shape == (1, 3)
    servable.close()


def test_all_kinds_of_requests_are_replayed(classifier_copy: Path) -> None:
    write_warmup(classifier_copy, predict_log("image", picture(0)[None], ("label",)), multi_log())
    loaded = load(classifier_copy, LoadOptions(warmup_iterations=3))
    assert loaded.warmup_requests == 2
    loaded.servable.close()


@pytest.mark.parametrize(
    ("logs", "error", "words"),
    [
        ([predict_log, "other", picture(0)[None]], StatusError, "warm-up request 1 .*Missing named input: image"),
        ([predict_log, "image", picture(0)[None].astype(np.float32)], StatusError, "warm-up request 1 .*Expects arg"),
        # A rank on which TensorFlow would abort the process.
        ([predict_log, "image", picture(0)], StatusError, "has shape"),
        ([predict_log, "image", picture(0)[None], ("nothing",)], StatusError, "no output 'nothing'"),
        ([predict_log, "image", picture(0)[None], (), "nothing"], StatusError, "no signature 'nothing'"),
        ([lambda: b"\xff\xff"], ServingError, "expected a PredictionLog proto"),
        ([lambda: b""], ServingError, "found nothing, expected predict_log"),
    ],
)
def test_a_warm_up_that_fails_fails_the_load(classifier_copy: Path, logs: Any, error: Any, words: str) -> None:
    make, *arguments = logs
    write_warmup(classifier_copy, make(*arguments))
    closed: list[bool] = []
    close = SavedModelServable.close

    def noted(self: SavedModelServable) -> None:
        closed.append(True)
        close(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SavedModelServable, "close", noted)
        with pytest.raises(error, match=words) as caught:
            load(classifier_copy, LoadOptions())
    assert closed == [True]
    if isinstance(caught.value, StatusError):
        assert caught.value.code is Code.INVALID_ARGUMENT


def test_too_many_warm_up_requests(classifier_copy: Path) -> None:
    one = predict_log("image", picture(0)[None]).SerializeToString()
    write_warmup(classifier_copy, *[one] * (MAX_RECORDS + 1))
    with pytest.raises(ServingError, match="more than 1000 records"):
        load(classifier_copy, LoadOptions())


def test_a_damaged_warm_up_file_fails_the_load(classifier_copy: Path) -> None:
    path = classifier_copy / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ServingError, match="not a complete TFRecord file"):
        load(classifier_copy, LoadOptions())


def test_a_damaged_model_does_not_load(classifier_copy: Path) -> None:
    shutil.rmtree(classifier_copy / "assets")
    with pytest.raises(ModelLoadError, match="cannot be initialized"):
        load(classifier_copy, LoadOptions())


def test_tflite_is_preferred_only_where_asked_and_present(classifier_copy: Path, tflite_file: Path) -> None:
    options = LoadOptions(prefer_tflite=True, warmup=False)
    without = load_servable(classifier_copy, options)
    shutil.copy(tflite_file, classifier_copy / "model.tflite")
    preferred = load_servable(classifier_copy, options)
    not_asked = load_servable(classifier_copy, LoadOptions(warmup=False))
    assert [type(item) for item in (without, preferred, not_asked)] == [
        SavedModelServable, TfliteServable, SavedModelServable,
    ]  # fmt: skip
    for item in (without, preferred, not_asked):
        item.close()


def test_a_damaged_tflite_file_does_not_load(classifier_copy: Path) -> None:
    (classifier_copy / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    with pytest.raises(ServingError, match="TFLite"):
        load(classifier_copy, LoadOptions(prefer_tflite=True))
