from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.convert import worker
from serving.convert.job import Conversion, Outcome
from serving.convert.scores import probe_images
from serving.forms.tflite import load_made_here
from serving.measure.images import ImageBatches
from tests.serving.convert import networks

FORMS = ("tflite_float32", "tflite_float16", "tflite_dynamic", "tflite_int8", "tflite_int16x8", "tflite_sparse")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.save(tmp_path_factory.mktemp("source") / "model", networks.logits)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.images().save(tmp_path_factory.mktemp("sample") / "sample.npz")


@pytest.fixture(scope="module")
def made(model: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The model in every form."""
    out = tmp_path_factory.mktemp("made")
    return {form: worker.run(Conversion(form, model, out / form, sample, options={"seed": 3})) for form in FORMS}


def convert(
    model: Path, out: Path, form: str = "tflite_float32", sample: Path | None = None, **options: Any
) -> Outcome:
    return worker.run(Conversion(form, model, out, sample, options=options))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_made_and_answers_as_its_source(made: dict[str, Outcome], form: str) -> None:
    outcome = made[form]
    assert outcome.status == "ok", outcome.reason
    assert outcome.path is not None and outcome.path.name == "model.tflite"
    assert Outcome.from_json(outcome.to_json()) == outcome
    loaded = load_made_here(form, outcome.path)
    calibrated = "representative_images" in outcome.details
    pixels = next(networks.images().read())[0] if calibrated else probe_images(networks.SIZE)
    expected = np.asarray(networks.probabilities(networks.unit(pixels)))
    found = loaded.predict(pixels if form == "tflite_int8" else networks.unit(pixels))
    allowed = {"tflite_float32": 1e-4, "tflite_sparse": 1e-4, "tflite_float16": 5e-3}.get(form, 0.1)
    difference = np.abs(found - expected).max()
    assert difference <= allowed
    assert outcome.details["max_abs_difference"] == pytest.approx(difference)


@pytest.mark.parametrize("form", FORMS)
def test_one_signature_any_batch_builtin_operations(made: dict[str, Outcome], form: str) -> None:
    import tensorflow as tf

    path = made[form].path
    assert path is not None
    interpreter = tf.lite.Interpreter(str(path))
    assert interpreter.get_signature_list() == {"predict": {"inputs": ["image"], "outputs": ["probabilities"]}}
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [-1, 8, 8, 3]
    assert not [name for name in made[form].details["operations"] if name.startswith("Flex")]
    assert [entry.name for entry in path.parent.iterdir()] == ["model.tflite"]


def test_int8_takes_raw_pixels_and_has_no_floats_inside(made: dict[str, Outcome]) -> None:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(made["tflite_int8"].path))
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["dtype"] == np.uint8 and output["dtype"] == np.uint8
    assert image["quantization"] == (np.float32(1 / 255), 0)
    assert output["quantization"] == (1 / 256, 0)
    assert not [one["name"] for one in interpreter.get_tensor_details() if one["dtype"] == np.float32]


def test_the_record_of_the_calibration(made: dict[str, Outcome]) -> None:
    details = made["tflite_int8"].details
    assert details["representative_images"] == 24
    assert details["seed"] == 3
    assert details["representative_range_completed"] is False
    assert "representative_images" not in made["tflite_float32"].details


def test_smaller_forms_are_smaller(made: dict[str, Outcome]) -> None:
    size = {form: outcome.path.stat().st_size for form, outcome in made.items() if outcome.path}
    assert size["tflite_float16"] < size["tflite_float32"]
    assert size["tflite_int8"] < size["tflite_float32"]


def test_gray_images_still_give_the_scale_of_raw_pixels(model: Path, tmp_path: Path) -> None:
    gray = ImageBatches.of_arrays(np.full((4, 8, 8, 3), 100, np.uint8), np.zeros(4, np.int64))
    outcome = convert(model, tmp_path / "out", "tflite_int8", gray.save(tmp_path / "gray.npz"))
    assert outcome.status == "ok", outcome.reason
    assert outcome.details["representative_range_completed"] is True


def test_pixels_of_a_stranger_need_no_arithmetic(sample: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    source = networks.save(
        tmp_path / "m", lambda image: networks.logits(tf.cast(image, tf.float32) / 255.0), dtype="uint8"
    )
    outcome = convert(source, tmp_path / "out", "tflite_int8", sample)
    assert outcome.status == "ok", outcome.reason
    assert set(outcome.details["operations"]) <= {
        "QUANTIZE",
        "CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
        "DELEGATE",
    }


def test_a_quantization_aware_model_needs_no_images(tmp_path: Path, sample: Path) -> None:
    source = networks.save(tmp_path / "m", networks.quantization_aware, output="probabilities")
    for images in (None, sample):
        outcome = convert(source, tmp_path / "out", "tflite_int8", images)
        assert outcome.status == "ok", outcome.reason
        assert outcome.details["quantization_aware"] is True
        assert outcome.details["max_abs_difference"] < 0.1


def test_a_quantization_aware_model_with_another_input_range_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def function(image: Any) -> Any:
        return networks.quantization_aware(tf.quantization.fake_quant_with_min_max_args(image, 0.0, 0.9))

    outcome = convert(networks.save(tmp_path / "m", function), tmp_path / "out", "tflite_int8")
    assert outcome.status == "failed"
    assert "expected uint8 with 1/255 and 0" in outcome.reason
    assert not list((tmp_path / "out").iterdir())


def test_an_unsupported_operation_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    def function(image: Any) -> Any:
        return networks.logits(tf.image.resize(image, [6, 6], antialias=True))

    outcome = convert(networks.save(tmp_path / "m", function), tmp_path / "out")
    assert outcome.status == "failed"
    assert "no builtin operation for ScaleAndTranslate" in outcome.reason
    assert not (tmp_path / "out").exists()


def test_an_operation_that_cannot_be_quantized_is_named(sample: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    source = networks.save(tmp_path / "m", lambda image: networks.logits(tf.math.sin(image * 3)))
    assert convert(source, tmp_path / "float").status == "ok"
    outcome = convert(source, tmp_path / "out", "tflite_int8", sample)
    assert outcome.status == "failed"
    assert "TFLite cannot quantize SIN. Replace the layer" in outcome.reason


@pytest.mark.parametrize("form", ["tflite_int8", "tflite_int16x8", "tflite_mixed"])
def test_no_representative_images(model: Path, tmp_path: Path, form: str) -> None:
    outcome = convert(model, tmp_path / "out", form)
    assert outcome.status == "failed"
    assert f"{form} needs representative images" in outcome.reason


def test_representative_images_of_another_shape(model: Path, tmp_path: Path) -> None:
    other = networks.images(4, (6, 8, 3)).save(tmp_path / "other.npz")
    outcome = convert(model, tmp_path / "out", "tflite_int8", other)
    assert outcome.status == "failed"
    assert "the representative images are 6 x 8 x 3; the model takes 8 x 8 x 3" in outcome.reason


@pytest.mark.parametrize("content", ["empty", "cut", "missing"])
def test_representative_images_that_cannot_be_read(model: Path, sample: Path, tmp_path: Path, content: str) -> None:
    bad = tmp_path / "bad.npz"
    if content == "empty":
        np.savez(bad, pixels=np.zeros((0, 8, 8, 3), np.uint8), labels=np.zeros(0, np.int64))
    elif content == "cut":
        bad.write_bytes(sample.read_bytes()[:-100])
    outcome = convert(model, tmp_path / "out", "tflite_int8", bad)
    assert outcome.status == "failed"
    assert "the representative images cannot be used: " in outcome.reason
    assert str(bad) in outcome.reason


def test_the_same_model_and_sample_give_the_same_file(
    model: Path, sample: Path, made: dict[str, Outcome], tmp_path: Path
) -> None:
    again = convert(model, tmp_path / "out", "tflite_int8", sample)
    assert again.path is not None and made["tflite_int8"].path is not None
    assert again.path.read_bytes() == made["tflite_int8"].path.read_bytes()


def test_a_model_that_does_not_load_is_a_reason(tmp_path: Path) -> None:
    outcome = convert(tmp_path / "nowhere", tmp_path / "out")
    assert outcome.status == "failed"
    assert "does not exist" in outcome.reason
