"""The server that one writes first: a FastAPI handler that decodes the picture and calls `model(x)`.

    python benchmarks/serving/fastapi_server.py MODEL_DIR PORT KERAS

KERAS is `tf_keras`, which Slipway's models are made with, or `keras`, the version 3 that `tf.keras` means in
TensorFlow 2.16. The handler is a coroutine: in FastAPI's thread pool calls side by side crash the process.
"""

from __future__ import annotations

import base64
import importlib
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fastapi
import numpy as np
import tensorflow as tf
import uvicorn


def main(directory: Path, port: int, keras: str) -> None:
    """Serve the model until the process is ended."""
    model = importlib.import_module(keras).models.load_model(directory / "assets.extra" / f"{keras}.keras")
    app = fastapi.FastAPI()

    @app.post("/v1/models/cnn:predict")
    async def predict(request: dict[str, Any]) -> dict[str, Any]:
        if isinstance(request["instances"][0], dict):
            encoded = [base64.b64decode(item["b64"]) for item in request["instances"]]
            pixels = [tf.io.decode_image(item, channels=3, expand_animations=False) for item in encoded]
            batch = tf.stack([tf.image.resize(item, model.input_shape[1:3]) / 255.0 for item in pixels])
        else:
            batch = np.array(request["instances"], np.float32)
        return {"predictions": tf.nn.softmax(model(batch)).numpy().tolist()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
