"""The tiny classifier in every form that is measured."""

from __future__ import annotations

import pytest

from tests.serving.measure.tiny_forms import Tiny, build_onnx, build_openvino, build_saved_model, build_tflite


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The classifier in all forms; read only."""
    root = tmp_path_factory.mktemp("tiny")
    build_saved_model(root / "saved_model")
    paths = {
        kind: build_tflite(root / "saved_model", root / f"{kind}.tflite", kind)
        for kind in ("float32", "float16", "int8", "sparse")
    }
    onnx_path = build_onnx(root / "model.onnx")
    return Tiny(
        saved_model=root / "saved_model",
        **paths,
        onnx=onnx_path,
        openvino=build_openvino(onnx_path, root / "model.xml"),
    )
