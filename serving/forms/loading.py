"""Loads a model of any form.

Comes in: the name of a form and a path. Goes out: a `LoadedForm`. Called by everything that runs a converted
model. The runtime is imported here and nowhere earlier.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from serving.convert.forms import Form, Runtime
from serving.convert.forms import form as form_named
from serving.errors import ServingError
from serving.forms.base import LoadedForm, pixels_for
from serving.installed import installed

__all__ = ["LoadedForm", "load_form", "pixels_for"]

_SAVED_MODEL = "serving.forms.saved_model"
_MODULES: dict[Runtime, str] = {
    "saved_model": _SAVED_MODEL,
    "tftrt": _SAVED_MODEL,
    "tflite": "serving.forms.tflite",
    "onnxruntime": "serving.forms.onnxruntime",
    "openvino": "serving.forms.openvino",
}
# What executes a form; converting asks for more.
_RUNTIME_PACKAGES: dict[Runtime, str] = {
    "saved_model": "tensorflow",
    "tftrt": "tensorflow",
    "tflite": "tensorflow",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


def load_form(form: str, path: str | os.PathLike[str], threads: int = 1, signature: str | None = None) -> LoadedForm:
    """Load a model.

    Args:
        form: Name of the form, such as `tflite_int8`.
        path: The file, or the directory for a form that is one; a directory that holds the form's file will
            do as well.
        threads: CPU threads to calculate with.
        signature: Signature of a SavedModel to run; None chooses. Converted forms have only one.

    Returns:
        The loaded model; close it after use.

    Raises:
        ServingError: Unknown form, missing or damaged file, missing runtime, or `threads` below 1.
    """
    wanted = form_named(form)
    if threads < 1:
        raise ServingError(f"threads is {threads}; expected 1 or more.")
    file = _file(wanted, Path(path))
    package = _RUNTIME_PACKAGES[wanted.runtime]
    if not installed(package):
        raise ServingError(f"{form} needs {package}, which is not installed; pip install 'tfx-slipway[convert]'.")
    chosen = {"signature": signature} if _MODULES[wanted.runtime] == _SAVED_MODEL else {}
    loaded: LoadedForm = importlib.import_module(_MODULES[wanted.runtime]).load(form, file, threads, **chosen)
    return loaded


def _file(form: Form, path: Path) -> Path:
    file = path / form.file_name if form.file_name and path.is_dir() else path
    if not file.exists():
        raise ServingError(f"{file} does not exist; expected a model of the form {form.name}.")
    if form.file_name and not file.is_file():
        raise ServingError(f"{file} is no regular file; expected a model of the form {form.name}.")
    return file
