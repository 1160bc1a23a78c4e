"""Loading and running SavedModels through a private Session."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving import saved_model
from serving.errors import ModelLoadError, RunError, SignatureError
from serving.saved_model import SessionModel
from tests.serving.saved_models import LABELS, SIZE, encode_png, picture, to_example


@pytest.fixture(scope="module")
def model(classifier_dir: Path) -> Any:
    with SessionModel.load(classifier_dir, intra_op_threads=1, inter_op_threads=1) as loaded:
        yield loaded


def _bytes(*items: bytes) -> np.ndarray:
    return np.array(items, dtype=object)


def test_signatures_are_described(model: SessionModel) -> None:
    assert set(model.signatures) == {"serving_default", "predict_uint8", "predict_examples", "classify"}
    image = model.signatures["predict_uint8"].inputs["image"]
    assert (image.dtype, image.shape, image.numpy_dtype) == ("uint8", (None, *SIZE), np.uint8)
    outputs = model.signatures["serving_default"].outputs
    assert {name: spec.dtype for name, spec in outputs.items()} == {
        "class_id": "int64",
        "label": "string",
        "probabilities": "float32",
    }
    assert model.signatures["serving_default"].method_name == "tensorflow/serving/predict"


def test_run_agrees_with_the_python_loader(model: SessionModel, classifier_dir: Path) -> None:
    pixels = np.stack([picture(1), picture(2)])
    result = model.run("predict_uint8", {"image": pixels})
    reference = tf.saved_model.load(str(classifier_dir)).signatures["predict_uint8"](image=tf.constant(pixels))
    np.testing.assert_allclose(result["probabilities"], reference["probabilities"].numpy(), atol=1e-6)
    assert [label.decode() for label in result["label"]] == [LABELS[i] for i in result["class_id"]]


def test_bytes_and_examples_agree_with_pixels(model: SessionModel) -> None:
    png = encode_png(picture(3))
    expected = model.run("predict_uint8", {"image": picture(3)[None]})["probabilities"]
    for signature, key, value in (
        ("serving_default", "image_bytes", png),
        ("predict_examples", "examples", to_example(png)),
    ):
        result = model.run(signature, {key: _bytes(value)})
        np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)


def test_public_callable_gives_the_same(model: SessionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"image": picture(4)[None]}
    expected = model.run("predict_uint8", inputs)
    real = model._session

    class PublicOnly:
        make_callable = real.make_callable

    spec = model.signatures["predict_uint8"]
    values = saved_model._make_callable(PublicOnly(), spec, tuple(spec.outputs))([inputs["image"]])
    np.testing.assert_array_equal(values[list(spec.outputs).index("probabilities")], expected["probabilities"])


def test_operations_in_order_give_the_same(model: SessionModel, classifier_dir: Path) -> None:
    inputs = {"image_bytes": np.array([encode_png(picture(seed)) for seed in range(3)], object)}
    with SessionModel.load(classifier_dir, intra_op_threads=1, in_order=True) as in_order:
        one, other = model.run("serving_default", inputs), in_order.run("serving_default", inputs)
    assert one["label"].tolist() == other["label"].tolist()
    np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-6)


def test_run_from_several_threads(model: SessionModel) -> None:
    expected = model.run("predict_uint8", {"image": picture(5)[None]})["probabilities"]
    results: list[np.ndarray] = []

    def call() -> None:
        results.append(model.run("predict_uint8", {"image": picture(5)[None]})["probabilities"])

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        (
            "predict_unit8",
            {"image": picture(0)[None]},
            ["'predict_unit8'", "'classify'", "Did you mean 'predict_uint8'"],
        ),
        ("predict_uint8", {}, ["missing 'image'", "image: uint8 [?, 8, 8, 3]"]),
        ("predict_uint8", {"image": picture(0)[None], "mask": np.zeros(1)}, ["unknown 'mask'"]),
        (
            "predict_uint8",
            {"image": picture(0)[None].astype(np.float32)},
            ["float32", "expected image: uint8"],
        ),
        ("predict_uint8", {"image": picture(0)}, ["received shape [8, 8, 3]"]),
        ("predict_uint8", {"image": picture(0, (9, 8, 3))[None]}, ["received shape [1, 9, 8, 3]"]),
        ("serving_default", {"image_bytes": np.array([b"x"])}, ["|S1", "dtype=object"]),
        ("serving_default", {"image_bytes": [1]}, ["item of type int"]),
    ],
)
def test_calls_that_do_not_fit(model: SessionModel, signature: str, inputs: Any, words: list[str]) -> None:
    with pytest.raises(SignatureError) as caught:
        model.run(signature, inputs)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_undecodable_image_is_a_run_error(model: SessionModel) -> None:
    with pytest.raises(RunError, match="signature 'serving_default' failed: Unknown image file format") as caught:
        model.run("serving_default", {"image_bytes": _bytes(b"no picture")})
    assert caught.value.code == 3
    assert "{{" not in str(caught.value)


def test_a_closed_model_says_so(classifier_dir: Path) -> None:
    model = SessionModel.load(classifier_dir)
    model.close()
    model.close()
    with pytest.raises(ModelLoadError, match="was closed"):
        model.run("predict_uint8", {"image": picture(0)[None]})


def test_model_without_variables(tmp_path: Path) -> None:
    class Doubler(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x: Any) -> dict[str, Any]:
            return {"y": 2.0 * x}

    module = Doubler()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.__call__)
    shutil.rmtree(tmp_path / "m" / "variables")
    with SessionModel.load(tmp_path / "m") as model:
        np.testing.assert_array_equal(
            model.run("serving_default", {"x": np.array([1, 2], np.float32)})["y"], [2.0, 4.0]
        )


@pytest.mark.parametrize("legacy", [False, True])
def test_tf1_model_with_main_op(tmp_path: Path, legacy: bool) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        weight = v1.get_variable("w", initializer=3.0, use_resource=True)
        bias = v1.get_variable("b", initializer=0.0, use_resource=True)
        session.run(v1.global_variables_initializer())
        # The bias is set by the main op only, never by the checkpoint, so the answer tells whether it has
        # run.
        main_op = v1.assign(bias, 5.0).op
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        info = v1.saved_model.build_tensor_info
        signature = v1.saved_model.build_signature_def({"x": info(x)}, {"y": info(weight * x + bias)}, "predict")
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            saver=v1.train.Saver([weight]),
            main_op=main_op,
        )
        builder.save()
    if legacy:
        _rename_collection(tmp_path / "m" / "saved_model.pb", "saved_model_main_op", "legacy_init_op")
    with SessionModel.load(tmp_path / "m") as model:
        np.testing.assert_array_equal(
            model.run("serving_default", {"x": np.array([1, 2], np.float32)})["y"], [8.0, 11.0]
        )


def _rename_collection(path: Path, old: str, new: str) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    collections = proto.meta_graphs[0].collection_def
    collections[new].CopyFrom(collections[old])
    del collections[old]
    path.write_bytes(proto.SerializeToString())


def test_text_form_of_the_graph(classifier_copy: Path) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    binary = classifier_copy / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    (classifier_copy / "saved_model.pbtxt").write_text(text_format.MessageToString(proto))
    binary.unlink()
    with SessionModel.load(classifier_copy) as model:
        assert model.run("predict_uint8", {"image": picture(0)[None]})["probabilities"].shape == (
            1,
            len(LABELS),
        )


def _make_empty(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


def _make_a_file(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("x")


def _make_versions(directory: Path) -> None:
    shutil.rmtree(directory)
    (directory / "12").mkdir(parents=True)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "does not exist; expected the directory of a SavedModel"),
        (_make_empty, "is empty; expected"),
        (_make_a_file, "is a file; expected"),
        (lambda d: (d / "saved_model.pb").unlink(), "holds assets, assets.extra, fingerprint.pb, variables"),
        (
            _make_versions,
            "looks like a directory of versions: load",
        ),
        (lambda d: _truncate(d / "saved_model.pb"), "damaged or truncated"),
        (lambda d: (d / "saved_model.pb").write_bytes(b""), "holds no graph at all"),
        (lambda d: (d / "saved_model.pb").write_bytes(b"\xff" * 40), "is not a complete SavedModel proto"),
        (
            lambda d: _truncate(d / "variables" / "variables.data-00000-of-00001"),
            "variables .* cannot be restored",
        ),
        (lambda d: _truncate(d / "variables" / "variables.index"), "variables .* cannot be restored"),
        (
            lambda d: (d / "variables" / "variables.data-00000-of-00001").unlink(),
            "variables .* cannot be restored",
        ),
        (lambda d: shutil.rmtree(d / "assets"), "cannot be initialized"),
    ],
)
def test_damaged_directories(classifier_copy: Path, damage: Any, words: str) -> None:
    damage(classifier_copy)
    with pytest.raises(ModelLoadError, match=words):
        SessionModel.load(classifier_copy)


def test_other_tags(classifier_dir: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"no graph with the tags \['gpu', 'serve'\]; .*\[\['serve'\]\]"):
        SessionModel.load(classifier_dir, tags=("serve", "gpu"))


def test_unknown_operation(classifier_copy: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    path = classifier_copy / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    proto.meta_graphs[0].graph_def.node.add(name="alien", op="AlienOp")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelLoadError, match=r"cannot import the graph.*AlienOp"):
        SessionModel.load(classifier_copy)


def test_missing_checkpoint_fails_when_the_signature_runs(classifier_copy: Path) -> None:
    shutil.rmtree(classifier_copy / "variables")
    with (
        SessionModel.load(classifier_copy) as model,
        pytest.raises(RunError, match="was not restored") as caught,
    ):
        model.run("predict_uint8", {"image": picture(0)[None]})
    assert caught.value.code == 9
