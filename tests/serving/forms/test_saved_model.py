from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.convert.scores import probe_images
from serving.errors import ConversionError, ServingError, SignatureError
from serving.forms.loading import load_form
from serving.saved_model import SessionModel
from tests.serving.convert import networks


def test_ours_takes_raw_pixels_and_answers_as_it_is_served(classifier_dir: Path) -> None:
    pixels = probe_images(networks.SIZE)
    model = load_form("saved_model", classifier_dir)
    assert model.input_dtype == np.uint8
    with SessionModel.load(classifier_dir) as reference:
        expected = reference.run("predict_uint8", {"image": pixels})["probabilities"]
    np.testing.assert_allclose(model.predict(pixels), expected, atol=1e-6)
    model.close()
    with pytest.raises(ServingError, match="was closed"):
        model.predict(pixels)


@pytest.mark.parametrize("batch", [None, 3])
def test_a_stranger_with_logits_gives_probabilities(tmp_path: Path, batch: int | None) -> None:
    model = load_form("saved_model", networks.save(tmp_path / "m", networks.logits, shape=(batch, *networks.SIZE)))
    images = networks.unit(probe_images(networks.SIZE))
    found = model.predict(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.asarray(networks.probabilities(images)), atol=1e-5)
    model.close()


def test_the_signature_can_be_named(tmp_path: Path) -> None:
    path = networks.save(tmp_path / "m", networks.logits, signature="mine")
    model = load_form("saved_model", path, signature="mine")
    assert model.predict(np.zeros((2, *networks.SIZE), np.float32)).shape == (2, networks.CLASSES)
    with pytest.raises(SignatureError, match="no signature 'yours'"):
        load_form("saved_model", path, signature="yours")


def test_a_wrong_batch_is_an_error(tmp_path: Path) -> None:
    model = load_form("saved_model", networks.save(tmp_path / "m", networks.logits))
    with pytest.raises(ServingError, match=r"received uint8 \[1, 8, 8, 3\]; expected float32"):
        model.predict(np.zeros((1, *networks.SIZE), np.uint8))


def test_a_model_of_something_else(tmp_path: Path) -> None:
    import tensorflow as tf

    path = networks.save(tmp_path / "m", lambda text: tf.strings.length(text), dtype="string", shape=(None,))
    with pytest.raises(ConversionError, match="no signature of an image classifier"):
        load_form("saved_model", path)
