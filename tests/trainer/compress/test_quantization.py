"""What quantization-aware training starts from and what it keeps, shown on kernels that were thinned by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tf_keras

from tests.trainer.compress.conftest import FINETUNE, TRAIN, Splits, logits
from trainer.compress import network, quantization, sensitivity


def thinned(kernel: np.ndarray) -> np.ndarray:
    return sensitivity.thinned(kernel, 0.6)


def rounded(kernel: np.ndarray) -> np.ndarray:
    """Return the kernel with seven different values."""
    step = np.abs(kernel).max() / 3
    return np.round(kernel / step).astype(np.float32) * np.float32(step)


def values(kernel: np.ndarray) -> int:
    """Return the highest number of different values in an output channel."""
    return max(len(np.unique(kernel[..., channel])) for channel in range(kernel.shape[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "change"), [("zeros", thinned), ("clusters", rounded)])
def test_zeros_and_values_survive_training(keep: Any, change: Any, fitted: tf_keras.Model, splits: Splits) -> None:
    model = network.rebuild(fitted)
    names = network.thinnable(model)
    for name in names:
        network.kernel(model.get_layer(name)).assign(change(network.kernels(model)[name]))
    before = network.kernels(model)
    settings = FINETUNE.model_copy(update={"epochs": 1})
    aware, details = quantization.quantize(model, keep, names, *splits, settings, TRAIN)
    after = quantization.simulated_kernels(aware)
    assert set(after) == set(before)
    for name, kernel in after.items():
        assert np.abs(kernel - before[name]).max() > 1e-3, "nothing was trained"
        if name in names and keep == "zeros":
            assert np.all(kernel[before[name] == 0] == 0)
            assert details["sparsity"][name] >= 0.595
        elif name in names:
            assert values(kernel) <= 7
        else:
            assert np.mean(kernel == 0) < 0.1 and values(kernel) > 7
    assert details["kept"] == keep and details["steps"] == 20 and len(details["history"]) == 1


def test_ranges_start_from_the_data(fitted: tf_keras.Model, splits: Splits) -> None:
    aware = quantization.wrap(network.rebuild(fitted), "plain")
    statistics = [v.numpy() for v in aware.non_trainable_variables if "moving_" in v.name]
    quantization.find_ranges(aware, splits[0], seed=1)
    ranges = {v.name: float(v) for v in aware.non_trainable_variables if v.shape.rank == 0 and "step" not in v.name}
    first = next(layer for layer in aware.layers if type(layer).__name__ == "QuantizeLayer")
    assert {name: float(value) for name, value in first.quantizer_vars.items()} == {"min_var": 0.0, "max_var": 1.0}
    assert splits[0].pixels is not None
    rows = logits(fitted, splits[0].pixels)
    low, high = (ranges[f"quant_logits/post_activation_{side}:0"] for side in ("min", "max"))
    assert low == pytest.approx(rows.min(), rel=0.35) and high == pytest.approx(rows.max(), rel=0.35)
    for old, new in zip(statistics, [v for v in aware.non_trainable_variables if "moving_" in v.name], strict=True):
        np.testing.assert_array_equal(old, new)
