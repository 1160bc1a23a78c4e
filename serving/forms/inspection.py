"""What a model file is: its form and the images it takes, for models that come without a table.

Comes in: a path. Goes out: the name of a form, the size of its images. Called by the command line.
"""

from __future__ import annotations

from pathlib import Path

from serving.errors import ServingError
from serving.forms.loading import load_form

Shape = tuple[int, int, int]

_BY_ENDING = {".onnx": "onnx_float32", ".xml": "openvino_float32"}


def form_of(path: Path) -> str:
    """Return the form under which a model loads.

    A TensorFlow Lite file counts as `tflite_int8` if it takes integers, else as `tflite_float32`; ONNX and OpenVINO
    files count as float ones. The runtime is the same for all forms of an ending.

    Raises:
        ServingError: it is neither the directory of a SavedModel nor a file of a known ending, or it is damaged.
    """
    if path.is_dir() and ((path / "saved_model.pb").exists() or (path / "saved_model.pbtxt").exists()):
        return "saved_model"
    if path.is_file() and path.suffix in _BY_ENDING:
        return _BY_ENDING[path.suffix]
    if path.is_file() and path.suffix == ".tflite":
        from serving.edge.tflite_file import read_tflite

        try:
            signatures = read_tflite(path.read_bytes()).signatures.values()
        except ServingError as error:
            raise ServingError(f"{path} is no TensorFlow Lite model: {error}") from error
        dtypes = {tensor.dtype for signature in signatures for tensor in signature.inputs.values()}
        return "tflite_int8" if dtypes and dtypes <= {"int8", "uint8"} else "tflite_float32"
    found = "a directory without saved_model.pb" if path.is_dir() else "no such file" if not path.exists() else "a file"
    raise ServingError(
        f"{path} is {found}; expected the directory of a SavedModel, or a file ending in .tflite, .onnx or .xml."
    )


def input_shape(form: str, path: Path, signature: str | None = None) -> Shape:
    """Return height, width and channels of the images that a model takes.

    Args:
        form: its form.
        path: the file or directory.
        signature: of a SavedModel; None chooses.

    Raises:
        ServingError: it does not load, takes no images, or images of any size.
    """
    model = load_form(form, path, signature=signature)
    try:
        height, width, channels = model.shape
    finally:
        model.close()
    if height is None or width is None or channels is None:
        raise ServingError(f"{path} takes images of any size; expected a model with a fixed size.")
    return height, width, channels
