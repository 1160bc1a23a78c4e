from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.convert.scores import probe_images
from serving.convert.source import Source, open_source, save
from serving.errors import ConversionError, ModelLoadError
from tests.serving.convert import networks


def answers(source: Source, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(source.function(networks.unit(pixels))["probabilities"])


def expected(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(networks.probabilities(networks.unit(pixels)))


def test_one_of_ours_comes_out_without_its_labels(classifier_dir: Path) -> None:
    from serving.saved_model import SessionModel

    source = open_source(classifier_dir)
    assert (source.shape, source.classes, source.quantization_aware) == ((8, 8, 3), 3, False)
    assert source.details["signature"] == "predict_uint8"
    assert source.details["softmax"].startswith("in the model: 8 probe images")
    # Neither the table of the labels nor the cast and the division of the pixels are left.
    assert not {name for name in source.operations if "Lookup" in name or name in ("Cast", "RealDiv", "ArgMax")}
    pixels = probe_images(source.shape)
    with SessionModel.load(classifier_dir) as model:
        reference = model.run("predict_uint8", {"image": pixels})["probabilities"]
    np.testing.assert_allclose(answers(source, pixels), reference, atol=1e-6)


def test_logits_get_a_softmax_and_the_details_say_why(tmp_path: Path) -> None:
    source = open_source(networks.save(tmp_path / "m", networks.logits))
    assert source.details["softmax"].startswith("added: 8 probe images have scores from")
    pixels = next(networks.images().read())[0]
    np.testing.assert_allclose(answers(source, pixels), expected(pixels), atol=1e-5)


def test_what_is_saved_has_one_signature_and_no_variables(tmp_path: Path) -> None:
    from serving.saved_model import SessionModel

    made = save(open_source(networks.save(tmp_path / "m", networks.logits)), tmp_path / "source")
    pixels = probe_images(networks.SIZE)
    with SessionModel.load(made) as model:
        assert list(model.signatures) == ["predict"]
        assert str(model.signatures["predict"].inputs["image"]) == "image: float32 [?, 8, 8, 3]"
        found = model.run("predict", {"image": networks.unit(pixels[:5])})["probabilities"]
    np.testing.assert_allclose(found, expected(pixels[:5]), atol=1e-5)


@pytest.mark.parametrize("kind", ["divide", "multiply", "scale", "integers", "identity"])
def test_pixels_become_floats_however_they_are_used(tmp_path: Path, kind: str) -> None:
    import tensorflow as tf

    def function(image: Any) -> Any:
        real = tf.cast(tf.identity(image) if kind == "identity" else image, tf.float32)
        if kind in ("divide", "identity"):
            return networks.logits(real / 255.0)
        if kind == "multiply":
            return networks.logits(real * (1 / 255))
        if kind == "scale":
            return networks.logits((real - 127.0) / 128.0)
        return networks.logits(tf.cast(tf.bitwise.right_shift(image, tf.constant(1, tf.uint8)), tf.float32) / 127.0)

    source = open_source(networks.save(tmp_path / "m", function, dtype="uint8"))
    assert ("Cast" in source.operations) == (kind == "integers")
    assert ("RealDiv" in source.operations) == (kind in ("scale", "integers"))
    pixels = next(networks.images().read())[0]
    reference = tf.nn.softmax(function(tf.constant(pixels)))
    np.testing.assert_allclose(answers(source, pixels), reference, atol=1e-4)


def test_a_model_bound_to_one_image_is_set_free(tmp_path: Path) -> None:
    source = open_source(networks.save(tmp_path / "m", networks.logits, shape=(1, *networks.SIZE)))
    pixels = probe_images(networks.SIZE)
    np.testing.assert_allclose(answers(source, pixels), expected(pixels), atol=1e-5)


def test_a_model_that_cannot_be_set_free_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def function(image: Any) -> Any:
        return networks.logits(tf.concat([image, tf.ones([1, 8, 8, 1])], axis=-1)[..., 1:])

    with pytest.raises(ConversionError, match=r"does not run on 8 images at once.*for any batch size"):
        open_source(networks.save(tmp_path / "m", function, shape=(1, *networks.SIZE)))


def test_a_random_model_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def function(image: Any) -> Any:
        return networks.logits(tf.nn.dropout(image, 0.5))

    with pytest.raises(ConversionError, match=r"depends on more than its image: RandomUniform"):
        open_source(networks.save(tmp_path / "m", function))


def test_independent_scores_are_refused_unless_told(tmp_path: Path) -> None:
    import tensorflow as tf

    path = networks.save(tmp_path / "m", lambda image: tf.sigmoid(networks.logits(image)))
    with pytest.raises(ConversionError, match="neither logits nor probabilities"):
        open_source(path)
    assert open_source(path, options={"scores": "logits"}).details["softmax"] == "added: as the option `scores` says"
    with pytest.raises(ConversionError, match="`scores` is 'odds'"):
        open_source(path, options={"scores": "odds"})


def test_the_ranges_of_quantization_aware_training_are_kept(tmp_path: Path) -> None:
    source = open_source(networks.save(tmp_path / "m", networks.quantization_aware))
    assert source.quantization_aware
    assert "FakeQuantWithMinMaxVarsPerChannel" in source.operations


def test_a_directory_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="is empty"):
        open_source(tmp_path)
