"""A TFLite model as a loaded form, with or without signatures, quantized or not.

Comes in: a .tflite file. Goes out: probabilities. Called by `serving.forms.loading`, and by the TFLite converters to
compare what they made with its source.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert.scores import kind_of, probe_images, softmax
from serving.errors import ServingError
from serving.forms import tflite_file
from serving.forms.base import check_batch, pixels_for

_OURS = {"predict": {"inputs": ["image"], "outputs": ["probabilities"]}}


class TfliteForm:
    """A TFLite model that answers with probabilities; see `serving.forms.base.LoadedForm`.

    A model with uint8 or int8 input takes raw pixels, whatever its quantization says about their meaning: that is
    how quantized image models are fed. int8 gets them less 128. A model with float input takes values in [0, 1].
    """

    def __init__(self, content: bytes, where: str, threads: int) -> None:
        """Set up the interpreter; `load` checks the content first."""
        from tensorflow.lite.python.interpreter import Interpreter

        self._where = where
        self._interpreter: Any = None
        try:
            # From memory: the file may be replaced while it is in use.
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ServingError(f"the TFLite runtime cannot load {where}: {_brief(error)}.") from error
        self._read_interface()
        self._logits = False
        if self._interpreter.get_signature_list() != _OURS:
            scores = self.predict(pixels_for(self, probe_images(self.shape)))
            self._logits = kind_of(scores, where, self._step).kind == "logits"

    def _read_interface(self) -> None:
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ServingError(
                f"{self._where} has {len(inputs)} inputs and {len(outputs)} outputs; expected an image classifier with "
                "one of each."
            )
        (image,), (scores,) = inputs, outputs
        shape = [int(size) for size in image["shape_signature"]]
        if image["dtype"] not in (np.float32, np.uint8, np.int8) or len(shape) != 4 or min(shape[1:]) < 1:
            raise ServingError(
                f"{self._where} takes {np.dtype(image['dtype']).name} {shape}; expected an image float32, uint8 or "
                "int8 [N, H, W, C] of known height, width and channels."
            )
        if scores["dtype"] not in (np.float32, np.uint8, np.int8) or len(scores["shape"]) != 2:
            raise ServingError(
                f"{self._where} gives {np.dtype(scores['dtype']).name} {list(scores['shape'])}; expected scores "
                "float32, uint8 or int8 [N, K]."
            )
        self._input, self._output = image["index"], scores["index"]
        self._kind = np.dtype(image["dtype"])
        self.input_dtype: np.dtype[Any] = np.dtype(np.float32 if self._kind == np.float32 else np.uint8)
        self.shape = (shape[1], shape[2], shape[3])
        self._bound = None if shape[0] == -1 else shape[0]
        self._batch = int(image["shape"][0])
        self._step, self._zero = scores["quantization"]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classify [N, H, W, C] of `input_dtype`; returns probabilities float32 [N, K]."""
        if self._interpreter is None:
            raise ServingError(f"{self._where} was closed; load it again to run it.")
        check_batch(self._where, images, self.input_dtype, self.shape)
        pixels = (images ^ np.uint8(128)).view(np.int8) if self._kind == np.int8 else images
        try:
            raw = self._run(pixels) if self._bound is None else self._run_bound(pixels, self._bound)
        except (ValueError, RuntimeError) as error:
            raise ServingError(f"{self._where} failed on {len(images)} images: {_brief(error)}.") from error
        scores = raw if raw.dtype == np.float32 else (raw.astype(np.float32) - self._zero) * np.float32(self._step)
        return softmax(scores) if self._logits else scores

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) != self._batch:
            self._interpreter.resize_tensor_input(self._input, pixels.shape)
            self._interpreter.allocate_tensors()
            self._batch = len(pixels)
        self._interpreter.set_tensor(self._input, pixels)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output))

    def _run_bound(self, pixels: np.ndarray, size: int) -> np.ndarray:
        """Run a model that takes one batch size only; the last batch is filled up."""
        parts = []
        for start in range(0, len(pixels), size):
            part = pixels[start : start + size]
            full = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append(self._run(full)[: len(part)])
        return np.concatenate(parts)

    def close(self) -> None:
        """Free the model; closing twice is allowed."""
        self._interpreter = None


def load(form: str, path: Path, threads: int) -> TfliteForm:
    """Load a file from anywhere.

    Args:
        form: Name of the form; all forms of TFLite are loaded alike.
        path: The file.
        threads: CPU threads to calculate with.

    Raises:
        ServingError: The file is damaged, crashes the runtime, or is no image classifier.
    """
    content = _read(path)
    tflite_file.check_structure(content, str(path))
    tflite_file.check_by_running(content, path)
    return TfliteForm(content, str(path), threads)


def load_made_here(form: str, path: Path) -> TfliteForm:
    """Load a file that this process made, in which a crash takes down nobody else."""
    return TfliteForm(_read(path), "the converted file", threads=1)


def _read(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    raise ServingError(f"{path} does not exist; expected a .tflite file.")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(". ")
