"""`make demo`: the whole pipeline on hand-written digits, and a prediction for a picture.

Does what a person would type: `slipway run configs/digits.yaml`, then `slipway predict`. The picture is written by
this script from scikit-learn's bundled digits.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
_PICTURE_OF = 42  # any of scikit-learn's digits; this one is a clear 1
_ENLARGED = 8


def write_picture(path: Path) -> int:
    """Write one digit as a PNG, enlarged so that a person can look at it.

    Args:
        path: the file to write.

    Returns:
        What the picture shows, 0 to 9.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images[_PICTURE_OF] * (255 / 16)).round().astype(np.uint8)
    size = (pixels.shape[1] * _ENLARGED, pixels.shape[0] * _ENLARGED)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(path)
    return int(digits.target[_PICTURE_OF])


def slipway(*words: str) -> int:
    """Run a command as a person would, and return its exit code."""
    print(f"\n$ slipway {' '.join(words)}", flush=True)
    return subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=ROOT, check=False).returncode


def newest_picture(workdir: Path) -> Path:
    """Return the picture of the forms that the last run made."""
    pictures = sorted(workdir.glob("artifacts/Optimizer/results/*/front.png"), key=lambda path: path.stat().st_mtime)
    return pictures[-1] if pictures else workdir / "front.png"


def main() -> int:
    """Run the demo and return its exit code."""
    code = slipway("run", "configs/digits.yaml")
    if code:
        return code
    workdir = ROOT / "runs" / "digits"
    picture = workdir / "picture.png"
    truth = write_picture(picture)
    code = slipway("predict", str(picture.relative_to(ROOT)), "--workdir", "runs/digits")
    print(f"(the picture shows a {truth})\n")
    print("Look at:")
    for what, path in (
        ("the published model, for TensorFlow Serving", workdir / "served"),
        ("its manifest: checksums, metrics, origin", workdir / "served" / "1" / "manifest.json"),
        ("the bundle for phones: .tflite, labels, card, examples", workdir / "edge" / "1"),
        ("forms for other servers: ONNX or OpenVINO, card, example", workdir / "forms" / "1"),
        ("what each form costs and reaches, as a picture", newest_picture(workdir)),
        ("every artifact of every stage", workdir / "artifacts"),
        ("what TensorFlow, Beam and TFX had to say", workdir / "logs"),
        ("your own images: slipway init FOLDER", ROOT / "README.md"),
    ):
        if path.exists():
            print(f"  {path.relative_to(ROOT)!s:<54} {what}")
    print("Ask it: .venv/bin/slipway serve, and for a web page .venv/bin/slipway gateway in another terminal")
    return code


if __name__ == "__main__":
    sys.exit(main())
