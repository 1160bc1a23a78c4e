"""The contract of the export: every signature, loaded either way, answers as the Keras model does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tests.trainer.conftest import example
from trainer import explain, models
from trainer.errors import TrainerError
from trainer.export import export
from trainer.settings import ModelSettings
from transform import features
from transform.images import decode_and_resize
from transform.settings import ImageSettings

DIGITS = [f"digit {number}" for number in range(10)]
COLORS = ["zebra", "ape", "Öltanker"]


@dataclass
class Case:
    """One exported model and what it should answer."""

    folder: Path
    labels: list[str]
    examples: list[bytes]
    encoded: list[bytes]
    pixels: np.ndarray
    probabilities: np.ndarray
    heatmap: np.ndarray


def make_case(folder: Path, labels: list[str], settings: ImageSettings, examples: list[bytes], name: str) -> Case:
    tf_keras.utils.set_random_seed(3)
    shape = (*settings.size, settings.channels)
    model = models.build(ModelSettings(name=name), shape, len(labels))
    # Batch statistics as after a training: an export that loses them must not pass.
    for variable in model.non_trainable_variables:
        variable.assign(np.random.default_rng(5).uniform(0.5, 1.5, variable.shape))
    encoded = [
        tf.train.Example.FromString(one).features.feature[features.IMAGE].bytes_list.value[0] for one in examples
    ]
    pixels = np.stack([decode_and_resize(tf.constant(one), *shape).numpy() for one in encoded])
    probabilities = tf.nn.softmax(model(pixels / np.float32(255), training=False)).numpy()
    export(model, labels, settings, examples[:2], folder)
    heatmap = explain.gradcam(model, pixels / np.float32(255)).numpy()
    return Case(folder, labels, examples, encoded, pixels, probabilities, heatmap)


@pytest.fixture(scope="module", params=["digits", "photographs"])
def case(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    digit_examples: list[bytes],
    photographs: list[bytes],
) -> Case:
    folder = tmp_path_factory.mktemp("export") / "1"
    if request.param == "digits":
        return make_case(folder, DIGITS, ImageSettings(size=(8, 8), channels=1), digit_examples[:40], "cnn_small")
    examples = [example(one, index % 3) for index, one in enumerate(photographs)]
    return make_case(folder, COLORS, ImageSettings(size=(24, 32), channels=3), examples, "mobilenet_small")


@pytest.fixture(scope="module", params=["as TensorFlow Serving", "tf.saved_model.load"])
def predict(request: pytest.FixtureRequest, case: Case, load_as_serving: Any) -> Callable[..., dict[str, np.ndarray]]:
    if request.param == "as TensorFlow Serving":
        return load_as_serving(case.folder)
    loaded = tf.saved_model.load(str(case.folder))

    def call(signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        outputs = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return call


def requests(case: Case, rows: slice) -> dict[str, dict[str, Any]]:
    pixels = case.pixels[rows]
    return {
        "serving_default": {"image_bytes": np.array(case.encoded[rows], object)},
        "predict_uint8": {"image": pixels},
        "predict_float": {"image": pixels / np.float32(255)},
        "predict_examples": {"examples": np.array(case.examples[rows], object)},
        "explain": {"image_bytes": np.array(case.encoded[rows], object)},
    }


@pytest.mark.parametrize("rows", [slice(0, 1), slice(None)], ids=["one", "many"])
def test_all_signatures_answer_as_the_keras_model(case: Case, predict: Any, rows: slice) -> None:
    expected = case.probabilities[rows]
    for signature, inputs in requests(case, rows).items():
        answer = predict(signature, **inputs)
        heatmap = {"heatmap"} if signature == "explain" else set()
        assert set(answer) == {"probabilities", "class_id", "label"} | heatmap, signature
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5, err_msg=signature)
        np.testing.assert_array_equal(answer["class_id"], expected.argmax(1), err_msg=signature)
        named = [label.decode() for label in answer["label"]]
        assert named == [case.labels[index] for index in expected.argmax(1)], signature


def test_explain_shows_where_the_network_looked(case: Case, predict: Any) -> None:
    alone = predict("explain", image_bytes=np.array(case.encoded[:1], object))["heatmap"]
    heatmap = predict("explain", image_bytes=np.array(case.encoded, object))["heatmap"]
    assert heatmap.dtype == np.float32
    np.testing.assert_allclose(heatmap, case.heatmap, atol=1e-3)
    np.testing.assert_allclose(alone, case.heatmap[:1], atol=1e-3)


def test_a_network_without_feature_maps_explains_nothing(tmp_path: Path, digit_examples: list[bytes]) -> None:
    model = models.build(ModelSettings(name="mlp"), (8, 8, 1), 10)
    export(model, DIGITS, ImageSettings(size=(8, 8), channels=1), digit_examples[:2], tmp_path / "1")
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "1" / "saved_model.pb").read_bytes())
    assert "explain" not in saved.meta_graphs[0].signature_def
    assert "serving_default" in saved.meta_graphs[0].signature_def


@pytest.mark.parametrize("rows", [slice(0, 1), slice(None)], ids=["one", "many"])
def test_classify_gives_classes_in_the_order_of_the_labels(case: Case, predict: Any, rows: slice) -> None:
    answer = predict("classify", inputs=np.array(case.examples[rows], object))
    assert set(answer) == {"classes", "scores"}
    assert [[name.decode() for name in row] for row in answer["classes"]] == [case.labels] * len(answer["scores"])
    np.testing.assert_allclose(answer["scores"], case.probabilities[rows], atol=1e-5)


def test_what_is_no_image_or_example_is_an_error(case: Case, predict: Any) -> None:
    garbage = np.array([case.encoded[0], b"no image"], object)
    with pytest.raises(tf.errors.InvalidArgumentError):
        predict("serving_default", image_bytes=garbage)
    for signature, name in (("predict_examples", "examples"), ("classify", "inputs")):
        with pytest.raises(tf.errors.InvalidArgumentError):
            predict(signature, **{name: np.array([b"no example"], object)})


def test_the_signatures_have_the_names_types_and_methods_that_servers_expect(case: Case) -> None:
    saved = saved_model_pb2.SavedModel.FromString((case.folder / "saved_model.pb").read_bytes())
    definitions = {
        name: one for name, one in saved.meta_graphs[0].signature_def.items() if name != "__saved_model_init_op"
    }
    assert {name: list(one.inputs) for name, one in definitions.items()} == {
        "serving_default": ["image_bytes"],
        "predict_uint8": ["image"],
        "predict_float": ["image"],
        "predict_examples": ["examples"],
        "classify": ["inputs"],
        "explain": ["image_bytes"],
    }
    methods = {name: one.method_name.rpartition("/")[2] for name, one in definitions.items()}
    assert methods.pop("classify") == "classify"
    assert set(methods.values()) == {"predict"}
    for name, one in definitions.items():
        for info in (*one.inputs.values(), *one.outputs.values()):
            assert info.tensor_shape.dim[0].size == -1, f"{name} has a fixed batch"
    types = {key: info.dtype for key, info in definitions["predict_uint8"].outputs.items()}
    assert types == {
        "probabilities": tf.float32.as_datatype_enum,
        "class_id": tf.int64.as_datatype_enum,
        "label": tf.string.as_datatype_enum,
    }


def test_the_saved_model_holds_no_keras_object(case: Case) -> None:
    assert not (case.folder / "keras_metadata.pb").exists()
    saved = saved_model_pb2.SavedModel.FromString((case.folder / "saved_model.pb").read_bytes())
    objects = saved.meta_graphs[0].object_graph_def.nodes
    assert not [one.user_object.identifier for one in objects if "keras" in one.user_object.identifier]


def test_labels_and_warm_up_lie_beside_the_model(case: Case, predict: Any) -> None:
    extra = case.folder / "assets.extra"
    assert (extra / "labels.txt").read_text(encoding="utf-8").splitlines() == case.labels
    records = tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests")).as_numpy_iterator()
    replayed = {}
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "classify_log":
            assert len(log.classify_log.request.input.example_list.examples) == 2
            continue
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        replayed[request.model_spec.signature_name] = predict(request.model_spec.signature_name, **inputs)
    assert set(replayed) == {"serving_default", "predict_uint8", "predict_float", "predict_examples", "explain"}
    for signature, answer in replayed.items():
        np.testing.assert_allclose(answer["probabilities"], case.probabilities[:2], atol=1e-5, err_msg=signature)


@pytest.mark.parametrize(
    ("labels", "size", "examples", "said"),
    [
        (["a", "b"], (8, 8), [b""], "2 labels for 3 logits"),
        (["a", "b", "b"], (8, 8), [b""], "expected different names"),
        (["a", "b", "c\nd"], (8, 8), [b""], "line break"),
        (["a", "b", "c"], (9, 8), [b""], r"takes images of \(8, 8, 1\); expected transform's \(9, 8, 1\)"),
        (["a", "b", "c"], (8, 8), [], "no examples for the warm-up"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    tmp_path: Path, labels: list[str], size: tuple[int, int], examples: list[bytes], said: str
) -> None:
    model = models.build(ModelSettings(name="mlp"), (8, 8, 1), 3)
    with pytest.raises(TrainerError, match=said):
        export(model, labels, ImageSettings(size=size, channels=1), examples, tmp_path / "1")
    assert not (tmp_path / "1").exists()


def test_an_existing_saved_model_is_not_overwritten(case: Case) -> None:
    model = models.build(ModelSettings(name="mlp"), (8, 8, 1), 3)
    with pytest.raises(TrainerError, match="already holds a SavedModel"):
        export(model, ["a", "b", "c"], ImageSettings(size=(8, 8), channels=1), case.examples[:1], case.folder)
