"""A folder of made-up pictures of any number, the same at every call and cheap to make.

A hundred pictures of each class are drawn and encoded as JPEG; every file is one of them with its own number in a JPEG
comment, so that no two files are equal while nothing is encoded twice.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("bars", "checks", "dots", "rings")
SIDE = 64
_BASES = 100
_PER_FOLDER = 10_000


def _base(kind: str, number: int) -> bytes:
    """Return one drawn picture as JPEG."""
    rng = np.random.default_rng([CLASSES.index(kind), number])
    picture = Image.fromarray(rng.integers(0, 80, (SIDE, SIDE, 3), np.uint8))
    pen = ImageDraw.Draw(picture)
    color = tuple(int(c) for c in rng.integers(150, 255, 3))
    step, shift = int(rng.integers(8, 20)), int(rng.integers(0, 8))
    for at in range(shift, SIDE, step):
        if kind == "bars":
            pen.rectangle((0, at, SIDE, at + step // 3), fill=color)
        elif kind == "rings":
            pen.ellipse((at // 2, at // 2, SIDE - at // 2, SIDE - at // 2), outline=color, width=2)
        else:
            for across in range(shift, SIDE, step):
                box = (at, across, at + step // 2, across + step // 2)
                pen.rectangle(box, fill=color) if kind == "checks" else pen.ellipse(box, fill=color)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def numbered(picture: bytes, number: int) -> bytes:
    """Return a JPEG with a number in a comment behind its first marker (ITU-T T.81, B.2.4.5)."""
    comment = b"%012d" % number
    return picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]


def write_pictures(folder: Path, count: int) -> Path:
    """Write a folder per class with `count` pictures in all; a complete one is kept as it is.

    Args:
        folder: where; made, and marked as complete at the end.
        count: pictures.
    """
    root, done = folder / str(count), folder / f"{count}.done"
    if done.exists():
        return root
    bases = {kind: [_base(kind, number) for number in range(_BASES)] for kind in CLASSES}
    for number in range(count):
        kind = CLASSES[number % len(CLASSES)]
        place = root / kind / f"{number // _PER_FOLDER:04d}"
        if number % _PER_FOLDER < len(CLASSES):
            place.mkdir(parents=True, exist_ok=True)
        content = numbered(bases[kind][number // len(CLASSES) % _BASES], number)
        descriptor = os.open(place / f"{number:08d}.jpg", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, content)
        os.close(descriptor)
    done.touch()
    return root
