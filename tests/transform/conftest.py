"""Small images and folders of them, made when a test asks."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# Timing says nothing on a busy machine.
settings.register_profile("transform", deadline=None, database=None)
settings.load_profile("transform")

Encode = Callable[..., bytes]
Tree = Callable[[dict[str, bytes]], Path]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """`encode(seed, format, size=(6, 5), mode="RGB", **options)`: a random image as a file."""

    def make(
        seed: int, kind: str = "PNG", size: tuple[int, int] = (6, 5), mode: str = "RGB", **options: object
    ) -> bytes:
        shape = (size[1], size[0], {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode])
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode).save(out, kind, **options)
        return out.getvalue()

    return make


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """`tree({"cats/1.png": content})`: a folder with these files."""

    def make(files: dict[str, bytes]) -> Path:
        root = tmp_path / "data"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return root

    return make


@pytest.fixture
def two_classes(encode: Encode) -> dict[str, bytes]:
    """Ten different PNG images of each of two classes."""
    return {
        f"{label}/{number}.png": encode(100 * index + number)
        for index, label in enumerate(("cats", "dogs"))
        for number in range(10)
    }


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def fashion_files(tmp_path: Path) -> Path:
    """A folder with a Fashion-MNIST of 200 train and 40 test images."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 40)):
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder
