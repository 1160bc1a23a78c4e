"""Classifies images: `python classify.py ../../model_int8.tflite IMAGE ...`.

Needs `pip install ai-edge-litert numpy pillow`. The file with float input works in the same way.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image


class Classifier:
    """A model file of this bundle and its labels."""

    def __init__(self, model: str, labels: str) -> None:
        """Load the model."""
        from ai_edge_litert.interpreter import Interpreter

        self.labels = Path(labels).read_text(encoding="utf-8").splitlines()
        self.run = Interpreter(model_path=model).get_signature_runner("predict")
        self.input = self.run.get_input_details()["image"]
        self.output = self.run.get_output_details()["probabilities"]

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Give the probability of each class, float32 [K]."""
        _, height, width, channels = self.input["shape"]
        image = image.convert("L" if channels == 1 else "RGB")
        # Bilinear without antialiasing, as in training; Image.resize would antialias.
        box = (0, 0, *image.size)
        image = image.transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
        pixels = np.asarray(image).reshape(1, height, width, channels)
        if self.input["dtype"] == np.float32:
            pixels = pixels.astype(np.float32) / 255
        answer = self.run(image=pixels)["probabilities"][0]
        scale, zero_point = self.output["quantization"]
        return answer if answer.dtype == np.float32 else (answer.astype(np.float32) - zero_point) * scale


def main() -> None:
    """Print the best class of each image."""
    model, *images = sys.argv[1:]
    classify = Classifier(model, str(Path(model).with_name("labels.txt")))
    for path in images:
        probabilities = classify(Image.open(path))
        best = int(probabilities.argmax())
        print(path, classify.labels[best], f"{probabilities[best]:.4f}", sep="\t")


if __name__ == "__main__":
    main()
