"""The model in this folder, run by OpenVINO: `pip install openvino`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

PRECISIONS = {"none": "f32", "bfloat16": "bf16"}


class Model:
    """Images in, probabilities out; `shape` is height, width, channels."""

    def __init__(self, folder: Path) -> None:
        """Load `model.xml` and `model.bin`."""
        # Without this line OpenVINO reports its use to its vendor, where the package for that is installed.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        core = openvino.Core()
        read = core.read_model(str(folder / "model.xml"))
        scheme = json.loads((folder / "card.json").read_text(encoding="utf-8"))["quantization"]["scheme"]
        # Without the hint OpenVINO calculates in bfloat16 wherever the CPU can, which was not measured.
        self.model = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": PRECISIONS[scheme]})
        self.shape = tuple(size.get_length() for size in list(read.inputs[0].get_partial_shape())[1:])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Give the probabilities, float32 [N, K], of images, float32 [N, H, W, C] in [0, 1]; any N."""
        return np.asarray(self.model([images])["probabilities"])
