"""The script that a user would write without Slipway: load Fashion-MNIST, fit, evaluate on test, save.

The yardstick of `scripts/bench.py`: the same images, the same model, optimizer, batch size and number of epochs as
`configs/bench/fashion_mnist_cnn_small.yaml`, with the autograph rule that the project uses too.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tf_keras

from trainer.autograph import spare_known_code
from trainer.models.registry import build
from trainer.settings import ModelSettings
from transform.sources.fashion_mnist import find_files
from transform.sources.idx import read_idx

EPOCHS = 5
BATCH_SIZE = 128
LEARNING_RATE = 1e-3


def main(out: str) -> None:
    """Train, evaluate and save.

    Args:
        out: folder for the SavedModel.
    """
    files = find_files()
    if files is None:
        raise SystemExit("fashion_mnist isn't here; `slipway doctor` says how to get it")
    spare_known_code()
    tf_keras.utils.set_random_seed(7)
    x_train, y_train, x_test, y_test = map(read_idx, files)
    x_train = x_train[..., None].astype(np.float32) / 255.0
    x_test = x_test[..., None].astype(np.float32) / 255.0
    model = build(ModelSettings(name="cnn_small"), (28, 28, 1), 10)
    model.compile(
        tf_keras.optimizers.Adam(LEARNING_RATE),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        [tf_keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    model.fit(x_train, y_train, batch_size=BATCH_SIZE, epochs=EPOCHS, validation_split=0.1, verbose=2)
    print("test", model.evaluate(x_test, y_test, batch_size=BATCH_SIZE, verbose=0))
    model.save(out, save_format="tf")


if __name__ == "__main__":
    main(sys.argv[1])
