"""A tiny real classifier in the forms of a bundle, and bundles to damage."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from serving import manifest as manifests
from serving.edge.bundle import BundleContents, BundleFile, SampleImage

LABELS = ("cat", "dog", "owl")
SIZE = (8, 8, 3)


def convert(directory: Path, labels: int = len(LABELS)) -> dict[str, Path]:
    """Convert a network with fixed weights to float16 and int8; give the files by kind."""
    import tensorflow as tf

    rng = np.random.default_rng(7)

    class Tiny(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(rng.normal(0, 0.5, (3, 3, 3, 4)).astype(np.float32))
            self.dense = tf.Variable(rng.normal(0, 0.3, (64, labels)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, *SIZE], tf.float32, name="image")], autograph=False)
        def predict(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            hidden = tf.nn.relu(tf.nn.conv2d(image, self.kernel, 2, "SAME"))
            return {"probabilities": tf.nn.softmax(tf.reshape(hidden, [-1, 64]) @ self.dense)}

    module = Tiny()
    saved = directory / "saved_model"
    tf.saved_model.save(module, str(saved), signatures={"predict": module.predict})
    files = {}
    for kind in ("float16", "int8"):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["predict"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind == "float16":
            converter.target_spec.supported_types = [tf.float16]
        else:
            converter.representative_dataset = lambda: ([pixels(n)[None] / np.float32(255)] for n in range(32))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        files[kind] = directory / f"{kind}.tflite"
        files[kind].write_bytes(converter.convert())
    return files


def pixels(seed: int) -> np.ndarray:
    """Random uint8 pixels that hold both 0 and 255."""
    values = np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)
    values[0, 0, 0], values[0, 0, 1] = 0, 255
    return values


def contents(files: dict[str, Path], /, **changes: object) -> BundleContents:
    """What goes into the bundle of the tests."""
    values: dict[str, object] = {
        "name": "pets",
        "version": "7",
        "description": "Tells cats, dogs and owls apart.",
        "labels": LABELS,
        "files": (
            BundleFile(files["float16"], "model_float16.tflite", "tflite_float16", ("gpu",)),
            BundleFile(files["int8"], "model_int8.tflite", "tflite_int8", ("cpu", "nnapi")),
        ),
        "samples": tuple(SampleImage(pixels(seed), LABELS[seed % 3]) for seed in range(3)),
        "intended_use": "Sorting holiday pictures.",
        "limits": ("No pictures of more than one animal.",),
        "data": "Random pixels.",
        "license": "Apache-2.0",
        "results": ({"variant": "tflite_int8", "accuracy": 0.9, "bytes": 2864, "reason": None, "delta": float("nan")},),
    }
    return BundleContents(**{**values, **changes})  # type: ignore[arg-type]


def sign(bundle: Path) -> None:
    """Write the sums anew, as someone who changed a bundle on purpose would."""
    (bundle / "SHA256SUMS").unlink(missing_ok=True)
    entries = manifests.describe_files(bundle)
    (bundle / "SHA256SUMS").write_text("".join(f"{entry.sha256}  {entry.path}\n" for entry in entries))


def replace_model(bundle: Path, name: str, content: bytes) -> None:
    """Put another model file in and make card and sums agree with it."""
    old = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content)
    card = (bundle / "model_card.json").read_text()
    card = card.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(content).hexdigest())
    (bundle / "model_card.json").write_text(card.replace(f'"size": {len(old)}', f'"size": {len(content)}'))
    sign(bundle)
