"""What all tests share: the process as an entry point sets it up, and a folder of pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import hypothesis
import numpy as np
import pytest
from PIL import Image, ImageDraw

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # as `pipeline.__main__` does

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

SHAPES = ("circle", "square", "cross")


def draw(shape: str, rng: np.random.Generator) -> Image.Image:
    """Return a colored shape on a noisy background; sizes differ."""
    width, height = int(rng.integers(40, 90)), int(rng.integers(40, 90))
    picture = Image.fromarray(rng.integers(0, 90, (height, width, 3), np.uint8))
    pen = ImageDraw.Draw(picture)
    color = tuple(int(c) for c in rng.integers(150, 255, 3))
    side = int(min(width, height) * rng.uniform(0.45, 0.7))
    left, upper = (int(rng.integers(0, limit - side)) for limit in (width, height))
    box = (left, upper, left + side, upper + side)
    if shape == "circle":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    else:
        pen.line(box, fill=color, width=max(4, side // 5))
        pen.line((box[0], box[3], box[2], box[1]), fill=color, width=max(4, side // 5))
    return picture


def write_shapes(root: Path, per_class: int, seed: int = 0) -> Path:
    """Write a folder per class with color pictures of several sizes and formats."""
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        (root / shape).mkdir(parents=True)
        for number in range(per_class):
            ending = ("jpg", "png", "bmp", "JPEG")[number % 4]
            draw(shape, rng).save(root / shape / f"{shape} {number}.{ending}")
    return root


@pytest.fixture(autouse=True)
def users_models_are_forgotten() -> Iterator[None]:
    """Leave the registry of models as it was found; a user's module stays registered as long as its process lives."""
    yield
    registry = sys.modules.get("trainer.models.registry")
    if registry is not None:
        for module, families in registry._users.items():
            sys.modules.pop(module)
            for name in families:
                registry._families.pop(name, None)
        registry._users.clear()


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 3 x 60 color pictures."""
    return write_shapes(tmp_path_factory.mktemp("pictures") / "shapes", 60)
