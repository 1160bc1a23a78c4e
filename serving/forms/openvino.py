"""An OpenVINO model (`.xml` with the `.bin` beside it), run on the CPU in the precision of its form.

Comes in: the `.xml` file. Goes out: a `LoadedForm`. Called by `serving.forms.loading`; `runtime` and
`calculates_bfloat16` also by `serving.convert.openvino`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError, UnavailableError
from serving.forms.base import check_batch

_DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "u8": np.dtype(np.uint8)}
_OUTPUT = "probabilities"
# Without the hint OpenVINO calculates in bfloat16 wherever the CPU can, whatever the file holds.
PRECISIONS = {"openvino_float32": "f32", "openvino_bfloat16": "bf16"}
NO_BFLOAT16 = "{form} needs a CPU with bfloat16 instructions (AVX512-BF16 or AMX); this one has none."


class OpenVinoForm:
    """A classifier in OpenVINO's format; see `serving.forms.base.LoadedForm`."""

    def __init__(self, name: str, compiled: Any) -> None:
        """Use `load`."""
        self._name = name
        self.input_dtype, self.shape = _image_input(name, compiled.inputs)
        self._output = _output(name, compiled.outputs)
        self._request: Any = compiled.create_infer_request()

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classify a batch.

        Args:
            images: [N, H, W, C] of `input_dtype`.

        Returns:
            Probabilities, float32 [N, K].

        Raises:
            ServingError: Shape or dtype does not fit, the runtime failed, or the model was closed.
        """
        if self._request is None:
            raise ServingError(f"{self._name} was closed; load it again to run it.")
        check_batch(self._name, images, self.input_dtype, self.shape)
        try:
            results = self._request.infer([np.ascontiguousarray(images)], share_inputs=True)
        except RuntimeError as error:
            raise ServingError(
                f"{self._name}: OpenVINO failed on a batch of {len(images)}: {_brief(error)}."
            ) from error
        return np.array(results[self._output], np.float32)

    def close(self) -> None:
        """Free the model; closing twice is allowed."""
        self._request = None


def load(form: str, path: Path, threads: int = 1) -> OpenVinoForm:
    """Load an OpenVINO model.

    Args:
        form: `openvino_float32` or `openvino_bfloat16`; decides the precision of the calculation.
        path: The `.xml` file; the weights lie beside it in a `.bin` of the same name.
        threads: CPU threads to calculate with.

    Returns:
        The loaded model.

    Raises:
        UnavailableError: OpenVINO is missing, or the form asks for bfloat16 and the CPU has none.
        ServingError: A file is missing or damaged, or holds no image classifier.
    """
    openvino = runtime(form)
    core = openvino.Core()
    precision = PRECISIONS[form]
    if precision == "bf16" and not calculates_bfloat16(core):
        raise UnavailableError(NO_BFLOAT16.format(form=form))
    _check_weights(path)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Threads pinned to cores would fight for them with whatever else runs there.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    except RuntimeError as error:
        raise ServingError(
            f"{path} is no model that OpenVINO {openvino.__version__.partition('-')[0]} can load: {_brief(error)}. "
            "It is damaged or truncated; convert the model again."
        ) from error
    return OpenVinoForm(f"{form} {path}", compiled)


def runtime(form: str) -> Any:
    """Import OpenVINO without its telemetry.

    `import openvino` reports to its vendor's statistics wherever the package `openvino_telemetry` can be imported
    and the user has not opted out; a model that someone converts or serves is nobody else's business.

    Args:
        form: Name of the form that needs it, for the message.

    Returns:
        The module `openvino`.

    Raises:
        UnavailableError: OpenVINO is not installed.
    """
    # None makes `import openvino_telemetry` fail, and OpenVINO then takes its own stand-in.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise UnavailableError(
            f"{form} needs openvino, which cannot be imported ({error}); pip install 'tfx-slipway[convert]'."
        ) from error
    return openvino


def calculates_bfloat16(core: Any) -> bool:
    """Whether this machine's CPU has bfloat16 instructions, by OpenVINO's own account.

    Args:
        core: An `openvino.Core`.
    """
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _check_weights(path: Path) -> None:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ServingError(
            f"{weights} does not exist; an OpenVINO model is the two files {path.name} and {weights.name}. Copy both."
        )


def _image_input(name: str, inputs: list[Any]) -> tuple[np.dtype[Any], tuple[int | None, ...]]:
    found = ", ".join(f"{entry.get_element_type().get_type_name()} {entry.get_partial_shape()}" for entry in inputs)
    if len(inputs) == 1 and inputs[0].get_partial_shape().rank.is_static:
        dtype = _DTYPES.get(inputs[0].get_element_type().get_type_name())
        sizes = list(inputs[0].get_partial_shape())
        if dtype is not None and len(sizes) == 4:
            return dtype, tuple(size.get_length() if size.is_static else None for size in sizes[1:])
    raise ServingError(f"{name} has the inputs {found or 'none'}; expected one image, float32 or uint8 [N, H, W, C].")


def _output(name: str, outputs: list[Any]) -> Any:
    for output in outputs:
        if _OUTPUT in output.get_names():
            return output
    found = ", ".join(sorted(name for output in outputs for name in output.get_names()))
    raise ServingError(f"{name} has the outputs {found or 'none'}; expected {_OUTPUT!r}.")


def _brief(error: Exception) -> str:
    # OpenVINO puts the place in its own source first and the cause last.
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:300].rstrip(". ") if lines else type(error).__name__
