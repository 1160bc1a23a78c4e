"""Which models `slipway benchmark` takes, and what it calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.optimizing.benchmarking import named_models
from serving.errors import ServingError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_every_model_gets_a_name_of_its_own(tmp_path):
    paths = [
        touch(tmp_path / "served/3/saved_model.pb").parent,
        touch(tmp_path / "a" / "model.onnx"),
        touch(tmp_path / "b" / "model.onnx"),
        touch(tmp_path / "other" / "a.onnx"),
        touch(tmp_path / "other" / "späte Größe.onnx"),
        touch(tmp_path / "other" / "a.xml"),
    ]
    models = named_models(paths)
    assert [model.name for model in models] == ["served-3", "a", "b", "a.2", "sp_te_Gr__e", "a.3"]
    assert [model.form for model in models] == ["saved_model", *["onnx_float32"] * 4, "openvino_float32"]
    assert all(model.path.is_absolute() for model in models)


def test_a_model_of_this_folder_is_not_called_like_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(touch(tmp_path / "copy" / "model.onnx").parent)
    assert [model.name for model in named_models([Path("model.onnx")])] == ["model"]


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ServingError, match="no such file"):
        named_models([tmp_path / "none.onnx"])


def test_a_damaged_tflite_file_is_measured_like_the_others_and_gets_its_reason_there(tmp_path):
    (tmp_path / "cut.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    assert [(model.name, model.form) for model in named_models([tmp_path / "cut.tflite"])] == [
        ("cut", "tflite_float32")
    ]
