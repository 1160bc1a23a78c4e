"""Classifies images with the model in this folder: `python classify.py IMAGE ...`.

Needs `pip install numpy pillow` and what `model.py` names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent


def read(path: str, height: int, width: int, channels: int) -> np.ndarray:
    """Read an image file as the model takes it: float32 [height, width, channels] in [0, 1]."""
    with Image.open(path) as opened:
        image = opened.convert("L" if channels == 1 else "RGB")
    # Bilinear without antialiasing, as in training; Image.resize would antialias.
    box = (0, 0, *image.size)
    image = image.transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32).reshape(height, width, channels) / 255


def main() -> None:
    """Print the best class of each image and its probability."""
    # What is published stays as its checksums say: no __pycache__ beside model.py.
    sys.dont_write_bytecode = True
    from model import Model

    paths = sys.argv[1:]
    if not paths:
        sys.exit("usage: python classify.py IMAGE ...")
    model = Model(HERE)
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    for path, probabilities in zip(paths, model(np.stack([read(path, *model.shape) for path in paths])), strict=True):
        best = int(probabilities.argmax())
        print(path, labels[best], f"{probabilities[best]:.4f}", sep="\t")


if __name__ == "__main__":
    main()
