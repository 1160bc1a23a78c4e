from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from serving.errors import ServingError
from serving.forms.loading import load_form

ROOT = Path(__file__).resolve().parents[3]


def test_an_unknown_form(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="there is no form 'tflite'"):
        load_form("tflite", tmp_path)


@pytest.mark.parametrize("form", ["saved_model", "tflite_int8", "onnx_float32", "openvino_float32"])
def test_a_missing_file_names_the_form(tmp_path: Path, form: str) -> None:
    with pytest.raises(ServingError, match=rf"does not exist; expected a model of the form {form}"):
        load_form(form, tmp_path / "none")


def test_a_directory_without_the_file_of_the_form(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"model.onnx does not exist"):
        load_form("onnx_int8", tmp_path)


def test_threads_below_one(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="threads is 0"):
        load_form("saved_model", tmp_path, threads=0)


def test_a_missing_runtime_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServingError, match=r"onnx_int8 needs onnxruntime, .*pip install 'tfx-slipway\[convert\]'"):
        load_form("onnx_int8", file)


def test_the_registries_import_no_runtime() -> None:
    script = (
        "import sys, serving.forms.loading, serving.convert.running, serving.convert.exporting\n"
        "print(sorted({'tensorflow', 'onnxruntime', 'openvino', 'onnx', 'tf2onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
