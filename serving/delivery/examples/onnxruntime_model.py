"""The model in this folder, run by ONNX Runtime: `pip install onnxruntime`."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Model:
    """Images in, probabilities out; `shape` is height, width, channels."""

    def __init__(self, folder: Path) -> None:
        """Load `model.onnx`."""
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        self.shape = tuple(self.session.get_inputs()[0].shape[1:])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Give the probabilities, float32 [N, K], of images, float32 [N, H, W, C] in [0, 1]; any N."""
        return np.asarray(self.session.run(["probabilities"], {"image": images})[0])
