"""An ONNX file, run by ONNX Runtime on the CPU.

Comes in: a `.onnx` file with one image input and the output `probabilities`. Goes out: a `LoadedForm`. Called by
`serving.forms.loading`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError, UnavailableError
from serving.forms.base import check_batch

_DTYPES: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(uint8)": np.dtype(np.uint8)}
_OUTPUT = "probabilities"


class OnnxRuntimeForm:
    """A classifier in an ONNX file; see `serving.forms.base.LoadedForm`."""

    def __init__(self, name: str, session: Any) -> None:
        """Use `load`."""
        self._name = name
        self._session: Any = session
        self._input, self.input_dtype, self.shape = _image_input(name, session.get_inputs())
        self._output = _output(name, [output.name for output in session.get_outputs()])

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classify a batch.

        Args:
            images: [N, H, W, C] of `input_dtype`.

        Returns:
            Probabilities, float32 [N, K].

        Raises:
            ServingError: Shape or dtype does not fit, the runtime failed, or the model was closed.
        """
        if self._session is None:
            raise ServingError(f"{self._name} was closed; load it again to run it.")
        check_batch(self._name, images, self.input_dtype, self.shape)
        try:
            (probabilities,) = self._session.run([self._output], {self._input: images})
        except Exception as error:
            # The runtime's own exceptions share no base class but this one.
            raise ServingError(
                f"{self._name}: ONNX Runtime failed on a batch of {len(images)}: {_brief(error)}."
            ) from error
        return np.asarray(probabilities, np.float32)

    def close(self) -> None:
        """Free the session; closing twice is allowed."""
        self._session = None


def load(form: str, path: Path, threads: int = 1) -> OnnxRuntimeForm:
    """Load an ONNX file.

    Args:
        form: Name of the form, for messages.
        path: The `.onnx` file.
        threads: CPU threads inside one operation.

    Returns:
        The loaded model.

    Raises:
        UnavailableError: ONNX Runtime is missing.
        ServingError: The file is damaged or no image classifier.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(
            f"{form} needs onnxruntime, which cannot be imported ({error}); pip install 'tfx-slipway[convert]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Spinning threads burn the CPU time of everything else that is measured beside this model.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # The runtime's own exceptions share no base class but this one.
        size = path.stat().st_size if path.is_file() else 0
        raise ServingError(
            f"{path} ({size:,} bytes) is no model that ONNX Runtime {onnxruntime.__version__} can load: "
            f"{_brief(error)}. It is damaged or truncated, or needs a newer runtime; convert the model again."
        ) from error
    return OnnxRuntimeForm(f"{form} {path}", session)


def _image_input(name: str, inputs: list[Any]) -> tuple[str, np.dtype[Any], tuple[int | None, ...]]:
    found = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs) or "none"
    if len(inputs) != 1 or inputs[0].type not in _DTYPES or len(inputs[0].shape) != 4:
        raise ServingError(f"{name} has the inputs {found}; expected one image, float32 or uint8 [N, H, W, C].")
    # Open dimensions carry a name or None.
    shape = tuple(size if isinstance(size, int) else None for size in inputs[0].shape[1:])
    return inputs[0].name, _DTYPES[inputs[0].type], shape


def _output(name: str, outputs: list[str]) -> str:
    if _OUTPUT not in outputs:
        raise ServingError(f"{name} has the outputs {', '.join(outputs) or 'none'}; expected {_OUTPUT!r}.")
    return _OUTPUT


def _brief(error: Exception) -> str:
    """What the runtime means, without its codes, the path and the place in its own source."""
    text = " ".join(str(error).split())
    for noise in (r"^\[ONNXRuntimeError\] : \d+ : ", r"Load model from .* failed: ?", r"/onnxruntime_src/.*\) "):
        text = re.sub(noise, "", text)
    return text[:300].rstrip(". ") or type(error).__name__
