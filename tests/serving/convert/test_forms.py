from __future__ import annotations

import pytest

from serving.convert.forms import DEFAULT_FORMS, FORMS, form
from serving.errors import ServingError


def test_names_say_the_runtime_and_files_fit_it() -> None:
    endings = {"tflite": ".tflite", "onnxruntime": ".onnx", "openvino": ".xml", "saved_model": "", "tftrt": ""}
    for name, found in FORMS.items():
        assert found.name == name
        assert found.file_name.endswith(endings[found.runtime])
        assert bool(found.file_name) == bool(endings[found.runtime])
        assert found.packages and found.description


def test_only_calibrated_forms_need_images() -> None:
    needy = {name for name, found in FORMS.items() if found.needs_representative}
    assert needy == {"tflite_int8", "tflite_int16x8", "tflite_mixed", "onnx_int8", "tftrt_int8"}


def test_the_defaults_exist_and_need_no_gpu() -> None:
    assert len(DEFAULT_FORMS) == 8
    assert {FORMS[name].runtime for name in DEFAULT_FORMS} == {"tflite", "onnxruntime", "openvino"}


def test_an_unknown_form_names_the_nearest() -> None:
    with pytest.raises(ServingError, match=r"expected one of saved_model, .* Did you mean 'tflite_int8'\?"):
        form("tflite_int_8")
