"""The SavedModel of a compressed model: plain signatures, no TF-MOT to load it, nothing half-done exported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.trainer.compress.conftest import Splits, logits
from trainer.compress import network, quantization
from trainer.compress.compressed import Compressed
from trainer.compress.exporting import export
from trainer.errors import TrainerError

Apply = Callable[[str], Compressed]

LOADING = """
import sys
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
pixels = np.load(sys.argv[2])
signatures = loaded.signatures
assert sorted(signatures) == ["predict_float", "predict_uint8"], sorted(signatures)
raw = signatures["predict_uint8"](image=tf.constant(pixels))
unit = signatures["predict_float"](image=tf.constant(pixels / np.float32(255)))
assert list(raw) == list(unit) == ["probabilities"]
assert "tensorflow_model_optimization" not in sys.modules
np.savez(sys.argv[3], raw=raw["probabilities"], unit=unit["probabilities"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("technique", ["qat"])
def test_it_loads_without_tf_mot_and_answers_as_the_model(
    technique: str, compressed: Apply, splits: Splits, tmp_path: Path
) -> None:
    found = compressed(technique)
    folder = export(found, tmp_path / "1")
    assert splits[1].pixels is not None
    pixels = splits[1].pixels[:40]
    np.save(tmp_path / "pixels.npy", pixels)
    arguments = [str(folder), str(tmp_path / "pixels.npy"), str(tmp_path / "answer.npz")]
    done = subprocess.run([sys.executable, "-c", LOADING, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answer = np.load(tmp_path / "answer.npz")
    expected = tf.nn.softmax(logits(found.model, pixels)).numpy()
    for name in ("raw", "unit"):
        assert answer[name].dtype == np.float32
        np.testing.assert_allclose(answer[name], expected, atol=1e-5)
    with pytest.raises(TrainerError, match="already holds a SavedModel"):
        export(found, folder)


def test_a_quantization_aware_model_that_was_never_trained_is_refused(fitted: tf_keras.Model, tmp_path: Path) -> None:
    aware = quantization.wrap(network.rebuild(fitted), "plain")
    with pytest.raises(TrainerError, match="never trained"):
        export(Compressed(aware, True, {"stages": []}), tmp_path / "1")
    assert not (tmp_path / "1").exists()


def test_wrappers_are_refused(fitted: tf_keras.Model, tmp_path: Path) -> None:
    from tensorflow_model_optimization.clustering.keras import cluster_weights

    image = tf_keras.Input((8,), name="image")
    wrapped = cluster_weights(tf_keras.Model(image, tf_keras.layers.Dense(4)(image)), 3)
    with pytest.raises(TrainerError, match="strip pruning and clustering"):
        export(Compressed(wrapped, False, {}), tmp_path / "1")
