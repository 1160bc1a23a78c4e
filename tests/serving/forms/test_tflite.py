from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.convert.scores import probe_images
from serving.errors import ServingError
from serving.forms import tflite_file
from serving.forms.base import pixels_for
from serving.forms.loading import load_form
from serving.forms.tflite import load_made_here
from tests.serving.convert import networks


@pytest.fixture(autouse=True)
def no_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the check in another process stands in test_tflite_file.py."""
    monkeypatch.setattr(tflite_file, "check_by_running", lambda content, path: None)


def stranger(path: Path, function: Any, *, batch: int | None = None, quantize: Any = None, **shape: Any) -> Path:
    """A .tflite file without a signature, as other people's tools make it."""
    import tensorflow as tf

    spec = tf.TensorSpec([batch, *shape.get("size", networks.SIZE)], tf.float32, name="x")
    concrete = tf.function(function, autograph=False).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter._experimental_lower_to_saved_model = False
    converter.experimental_lower_to_saved_model = False
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        sample = next(networks.images(40).read())[0]
        converter.representative_dataset = lambda: ([networks.unit(image[np.newaxis])] for image in sample)
        converter.inference_input_type = converter.inference_output_type = quantize
    path.write_bytes(converter.convert())
    return path


def expected(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(networks.probabilities(networks.unit(pixels)))


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_file_without_signature_of_any_batch_size(tmp_path: Path, batch: int | None) -> None:
    model = load_form("tflite_float32", stranger(tmp_path / "m.tflite", networks.logits, batch=batch))
    assert model.input_dtype == np.float32
    pixels = probe_images(networks.SIZE)
    for count in (1, 5, 8, 2):
        found = model.predict(pixels_for(model, pixels[:count]))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(pixels[:count]), atol=1e-5)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_quantized_files_of_strangers_take_raw_pixels(tmp_path: Path, kind: str) -> None:
    import tensorflow as tf

    file = stranger(tmp_path / "m.tflite", networks.probabilities, quantize=getattr(tf, kind))
    model = load_form("tflite_int8", file)
    assert model.input_dtype == np.uint8
    pixels = next(networks.images(40).read())[0]
    found = model.predict(pixels)
    assert np.abs(found - expected(pixels)).max() < 0.1
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=0.02)


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros((2, 8, 8, 3), np.float64), "float64"),
        (np.zeros((2, 8, 8, 3), np.uint8), "uint8"),
        (np.zeros((2, 8, 9, 3), np.float32), r"float32 \[2, 8, 9, 3\]"),
        (np.zeros((8, 8, 3), np.float32), r"float32 \[8, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.float32), r"float32 \[0, 8, 8, 3\]"),
        ([[1.0]], "list"),
    ],
)
def test_wrong_batches_are_errors(file: Path, images: Any, received: str) -> None:
    model = load_made_here("tflite_float32", file)
    with pytest.raises(ServingError, match=rf"received {received}.*; expected float32 \[N, 8, 8, 3\]"):
        model.predict(images)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stranger(tmp_path_factory.mktemp("file") / "m.tflite", networks.probabilities)


def test_a_closed_model_does_not_answer(file: Path) -> None:
    model = load_made_here("tflite_float32", file)
    model.close()
    model.close()
    with pytest.raises(ServingError, match="was closed"):
        model.predict(np.zeros((1, *networks.SIZE), np.float32))


def test_threads_do_not_change_the_answer(file: Path) -> None:
    images = networks.unit(probe_images(networks.SIZE))
    one, two = (load_form("tflite_float32", file, threads).predict(images) for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_models_that_are_no_image_classifiers(tmp_path: Path) -> None:
    import tensorflow as tf

    with pytest.raises(ServingError, match=r"m.tflite takes float32 \[-1, 192\]; expected an image"):
        load_form("tflite_float32", stranger(tmp_path / "m.tflite", lambda x: tf.nn.relu(x) * 2, size=(192,)))
    with pytest.raises(ServingError, match=r"n.tflite gives float32 .*; expected scores"):
        load_form("tflite_float32", stranger(tmp_path / "n.tflite", lambda x: tf.nn.relu(x) * 2))
    with pytest.raises(ServingError, match="neither logits nor probabilities"):
        load_form("tflite_float32", stranger(tmp_path / "o.tflite", lambda x: tf.sigmoid(networks.logits(x))))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="does not exist"):
        load_made_here("tflite_float32", tmp_path / "none.tflite")
