"""`slipway export`, `benchmark`, `optimize` and `edge verify`: what they refuse, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli.app import run
from tests.serving.convert import networks


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    (tmp_path / "notes.txt").write_text("no model")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "empty", "--format", "tflite_int9", "--out", "m.tflite"], "Did you mean 'tflite_int8'"),
        (["export", "empty", "--format", "tflite_int8", "--out", "m.tflite"], "name some by --data"),
        (["export", "empty", "--format", "tflite_float16", "--out", "m.onnx"], "does not end in .tflite"),
        (["export", "empty", "--format", "tflite_float16", "--out", "broken.tflite"], "exists already"),
        (["export", "empty", "--format", "saved_model", "--out", "m"], "expected another form"),
        (["export", "empty", "--format", "tflite_int8", "--out", "m.tflite", "--data", "digits"], "is empty"),
        (["benchmark", "nowhere.tflite"], "no such file"),
        (["benchmark", "notes.txt"], "expected the directory of a SavedModel, or a file ending in"),
        (["benchmark", "empty"], "without saved_model.pb"),
        (["benchmark", "broken.tflite"], "broken.tflite"),
        (["export", "broken.tflite", "--format", "tflite_float16", "--out", "m.tflite"], "expected the directory of"),
        (["versions", "--of", "phones"], "model"),
        (["versions", "--of", "forms"], "there is no run below"),
        (["benchmark"], "there is no run below"),
        (["optimize", "none.yaml"], "no such file"),
        (["edge", "verify", "nowhere"], "nowhere"),
        (["edge", "verify", "empty"], "empty"),
    ],
)
def test_what_cannot_work_is_said_in_words_with_exit_code_2(here, capsys, arguments, words):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    said = " ".join((captured.err + captured.out).split())
    assert words in said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """A folder of SavedModels as somebody else would export them."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("foreign")
    networks.save(folder / "plain", networks.probabilities)
    networks.save(
        folder / "gray", lambda pixels: networks.probabilities(tf.repeat(pixels, 3, 3)), shape=(None, 8, 8, 1)
    )
    networks.save(
        folder / "odd", lambda pixels: tf.nn.softmax(tf.math.betainc(2.0, 3.0, networks.probabilities(pixels)))
    )
    return folder


@pytest.mark.slow
def test_what_cannot_be_measured_is_a_row_with_its_reason_beside_the_others(foreign, tmp_path, capsys):
    plain, good, cut = str(foreign / "plain"), tmp_path / "good.tflite", tmp_path / "cut.tflite"
    assert run(["export", plain, "--format", "tflite_float32", "--out", str(good)]) == 0
    cut.write_bytes(good.read_bytes()[:1500])
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x08")
    capsys.readouterr()
    models = [plain, str(good), str(cut), str(tmp_path / "cut.onnx"), str(foreign / "gray")]
    assert run(["benchmark", *models, "--images", "16", "--rounds", "2", "--json"]) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "plain": "ok", "good": "ok", "cut": "failed", "cut.2": "failed", "gray": "failed",
    }  # fmt: skip
    assert "it is damaged or truncated" in rows["cut"]["reason"]
    assert "damaged or truncated" in rows["cut.2"]["reason"]
    assert "received float32 [16, 8, 8, 3]; expected float32 [N, 8, 8, 1]" in rows["gray"]["reason"]
    assert run(["benchmark", str(cut), str(good), "--rounds", "2"]) == 2
    assert "it is damaged or truncated" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "form", "out", "words"),
    [
        ("odd", "tflite_float32", "m.tflite", ("tflite_float32 failed: TFLite has no builtin operation for Betainc",)),
        ("odd", "openvino_float32", "m.xml", ("No conversion rule found for operations: Betainc",)),
        ("odd", "tftrt_fp16", "m", ("tftrt_fp16 was skipped: no_gpu", "of its operations would run in", "Betainc")),
    ],
)
def test_an_operation_that_a_form_lacks_is_named(foreign, tmp_path, monkeypatch, capsys, model, form, out, words):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert run(["export", str(foreign / model), "--format", form, "--out", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not list(tmp_path.iterdir())
