"""`slipway export`, `benchmark`, `optimize` and `edge verify`: what they refuse, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.app import run


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
