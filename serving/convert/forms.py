"""The forms in which a model can ship, by name.

Comes in: the name of a form. Goes out: what it is, which runtime executes it and what its conversion needs.
Read by the converters, the loaders, the benchmark and the command line.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from serving.errors import ServingError

Runtime = Literal["saved_model", "tflite", "onnxruntime", "openvino", "tftrt"]
InputDtype = Literal["uint8", "float32"]

_ONNX = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
_OPENVINO = ("tensorflow", "openvino")


@dataclass(frozen=True)
class Form:
    """One way to ship a model.

    Attributes:
        name: Name in configs, tables and files.
        runtime: What executes it.
        file_name: Name of the file to load; empty if the form is a directory.
        description: One line for people.
        needs_representative: Whether the conversion needs sample images.
        packages: Importable names of what conversion and execution need.
        input_dtype: `uint8` for raw pixels, `float32` for values in [0, 1].
    """

    name: str
    runtime: Runtime
    file_name: str
    description: str
    needs_representative: bool
    packages: tuple[str, ...]
    input_dtype: InputDtype


def _tflite(name: str, description: str, *, calibrated: bool = False, dtype: InputDtype = "float32") -> Form:
    return Form(f"tflite_{name}", "tflite", "model.tflite", description, calibrated, ("tensorflow",), dtype)


def _onnx(name: str, description: str, *, calibrated: bool = False) -> Form:
    return Form(f"onnx_{name}", "onnxruntime", "model.onnx", description, calibrated, _ONNX, "float32")


def _openvino(name: str, description: str) -> Form:
    return Form(f"openvino_{name}", "openvino", "model.xml", description, False, _OPENVINO, "float32")


def _tftrt(name: str, description: str, *, calibrated: bool = False) -> Form:
    return Form(f"tftrt_{name}", "tftrt", "", description, calibrated, ("tensorflow",), "float32")


_ALL = (
    Form(
        "saved_model",
        "saved_model",
        "",
        "the SavedModel itself, the reference",
        False,
        ("tensorflow",),
        "uint8",
    ),
    _tflite("float32", "TFLite, 32-bit floats"),
    _tflite("float16", "TFLite, weights as 16-bit floats: half the size, for GPU and Core ML delegates"),
    _tflite("dynamic", "TFLite, weights as 8-bit integers, activations as floats"),
    _tflite("int8", "TFLite, all in 8-bit integers, raw pixels in: for CPU and NNAPI", calibrated=True, dtype="uint8"),
    _tflite("int16x8", "TFLite, 16-bit activations and 8-bit weights: small, but slow", calibrated=True),
    _tflite("mixed", "TFLite, 8-bit integers with the most sensitive layers in floats", calibrated=True),
    _tflite("sparse", "TFLite, 32-bit floats with the zeros of a pruned model left out"),
    _onnx("float32", "ONNX for ONNX Runtime, 32-bit floats"),
    _onnx("int8", "ONNX for ONNX Runtime, 8-bit integers", calibrated=True),
    _openvino("float32", "OpenVINO, calculates in 32-bit floats"),
    _openvino("bfloat16", "OpenVINO, calculates in bfloat16 where the CPU can"),
    _tftrt("fp32", "SavedModel with TensorRT engines, 32-bit floats"),
    _tftrt("fp16", "SavedModel with TensorRT engines, 16-bit floats"),
    _tftrt("int8", "SavedModel with TensorRT engines, 8-bit integers", calibrated=True),
)
FORMS: dict[str, Form] = {form.name: form for form in _ALL}
DEFAULT_FORMS: tuple[str, ...] = (
    "tflite_float32",
    "tflite_float16",
    "tflite_dynamic",
    "tflite_int8",
    "onnx_float32",
    "onnx_int8",
    "openvino_float32",
    "openvino_bfloat16",
)


def form(name: str) -> Form:
    """Look up a form.

    Args:
        name: Name of the form, such as `tflite_int8`.

    Returns:
        The form.

    Raises:
        ServingError: There is no such form; the message names the nearest and all others.
    """
    if name in FORMS:
        return FORMS[name]
    near = difflib.get_close_matches(name, FORMS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ServingError(f"there is no form {name!r}; expected one of {', '.join(FORMS)}.{hint}")
