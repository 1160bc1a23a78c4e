"""The sample images of a bundle and the answers that each model file has to give.

Comes in: pixels, or the text of a `samples/expected.json`. Goes out: PNG files and `Expected`, or pixels again.
Called by `serving.edge.bundle`, `serving.edge.verify` and `serving.edge.answers`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving.edge import strict_json
from serving.errors import BundleError

if TYPE_CHECKING:
    import numpy as np

FOLDER = "samples"
EXPECTED_FILE = f"{FOLDER}/expected.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}\.png\Z")
_MAX_SIDE = 4096


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        image: Name of the PNG file in `samples/`; it has the size that the model takes.
        label: What it shows; null if unknown.
        answers: Probability of each class, by model file.
    """

    image: str
    label: str | None
    answers: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        """Refuse names that could lead elsewhere."""
        if not _NAME.match(self.image):
            raise BundleError(f"sample {self.image[:80]!r} is no plain name of a PNG file.")


@dataclass(frozen=True)
class Expected:
    """The answers to all samples.

    Attributes:
        samples: The images.
        runtime: What gave the answers.
    """

    samples: tuple[Sample, ...]
    runtime: str

    def __post_init__(self) -> None:
        """Refuse an empty list and images that stand twice."""
        names = [sample.image for sample in self.samples]
        if not names or len(set(names)) != len(names):
            raise BundleError(f"the samples are {names[:6]}; expected one or more, each once.")

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to equal answers."""
        return strict_json.encode(self)

    @classmethod
    def from_json(cls, text: str) -> Expected:
        """Read JSON text strictly.

        Raises:
            BundleError: As for `strict_json.decode`, or a name is unsafe.
        """
        return strict_json.decode(cls, text)


def write_png(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 [H, W, 1 or 3] as PNG, without loss."""
    from PIL import Image

    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, format="PNG")


def read_png(content: bytes, channels: int) -> np.ndarray:
    """Pixels of a sample.

    Args:
        content: A PNG file.
        channels: 1 for gray, 3 for RGB.

    Returns:
        uint8 [H, W, channels].

    Raises:
        BundleError: It is no PNG, too large, or has other channels.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode != ("L" if channels == 1 else "RGB") or max(image.size) > _MAX_SIDE:
                raise BundleError(
                    f"is an image of mode {image.mode} and size {image.size}; expected {channels} channels."
                )
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"is no readable PNG file: {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)
