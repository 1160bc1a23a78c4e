"""The model in this folder, run by TensorFlow with TensorRT: `pip install tensorflow`, and a GPU.

TensorFlow Serving's GPU image loads it as well: the folder `serving` is what `--model_base_path` takes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Model:
    """Images in, probabilities out; `shape` is height, width, channels."""

    def __init__(self, folder: Path) -> None:
        """Load the SavedModel in `serving/1`."""
        import tensorflow as tf

        # Engines belong to the loaded model: without a reference to it they would be freed.
        self.loaded = tf.saved_model.load(str(folder / "serving" / "1"))
        self.predict = self.loaded.signatures["predict"]
        self.shape = tuple(self.predict.structured_input_signature[1]["image"].shape[1:])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Give the probabilities, float32 [N, K], of images, float32 [N, H, W, C] in [0, 1]; any N."""
        return np.asarray(self.predict(image=images)["probabilities"])
