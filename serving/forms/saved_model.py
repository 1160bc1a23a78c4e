"""A SavedModel as a loaded form: the reference that every other form is compared with.

Comes in: the directory of a SavedModel, ours, from elsewhere, or with TensorRT engines. Goes out: probabilities.
Called by `serving.forms.loading`. What TensorFlow Serving's loader would refuse is refused. Then the model is called as
its users call it, by `tf.saved_model.load`, since every other runtime is called by its public Python API, too; the
private Session of `serving.saved_model` takes about a third of the time at batch size 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert.scores import probe_images, softmax
from serving.convert.selection import FLOAT_FIRST, UINT8_FIRST, choose
from serving.convert.source import run_images, run_scores, scores_of
from serving.errors import ServingError
from serving.forms.base import check_batch
from serving.saved_model import SessionModel


class SavedModelForm:
    """A SavedModel that answers with probabilities; see `serving.forms.base.LoadedForm`.

    Attributes:
        choice: Which signature and output answer.
    """

    def __init__(self, form: str, path: Path, threads: int, signature: str | None) -> None:
        """Load the model and find out what its scores are."""
        self._path = path
        checked = SessionModel.load(path, intra_op_threads=threads, inter_op_threads=threads)
        try:
            order = UINT8_FIRST if form == "saved_model" else FLOAT_FIRST
            self.choice = choose(checked.signatures, signature, order=order)
            self.input_dtype: np.dtype[Any] = np.dtype(self.choice.dtype)
            self.shape = self.choice.shape
            raw = run_scores(checked, self.choice, probe_images(self.choice.shape))
            self._logits = scores_of(raw, self.choice).kind == "logits"
        finally:
            checked.close()
        self._model: _PublicModel | None = _PublicModel(path)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classify [N, H, W, C] of `input_dtype`; returns probabilities float32 [N, K]."""
        if self._model is None:
            raise ServingError(f"{self._path} was closed; load it again to run it.")
        check_batch(str(self._path), images, self.input_dtype, self.shape)
        scores = run_images(self._model, self.choice, images)
        return softmax(scores) if self._logits else scores

    def close(self) -> None:
        """Free the model; closing twice is allowed."""
        self._model = None


class _PublicModel:
    """A model behind `tf.saved_model.load`, with the face of `SessionModel`."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self._path = path
        try:
            self._loaded: Any = tf.saved_model.load(str(path))
        except (tf.errors.OpError, ValueError, OSError) as error:
            raise ServingError(f"{path} does not load by tf.saved_model.load: {error}. Export it again.") from error

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Run one signature."""
        import tensorflow as tf

        try:
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            outputs: Mapping[str, Any] = self._loaded.signatures[signature](**tensors)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            reason = (str(error).strip().splitlines() or ["no message"])[0][:300]
            raise ServingError(f"{self._path}: signature {signature!r} failed: {reason}.") from error
        return outputs


def load(form: str, path: Path, threads: int, signature: str | None = None) -> SavedModelForm:
    """Load a SavedModel.

    Args:
        form: `saved_model`, which takes raw pixels where it can, or a form of TF-TRT, which takes floats.
        path: Directory of the model.
        threads: CPU threads to calculate with.
        signature: The signature to run; None chooses.

    Raises:
        ServingError: The directory does not load, or holds no image classifier.
    """
    return SavedModelForm(form, path, threads, signature)
