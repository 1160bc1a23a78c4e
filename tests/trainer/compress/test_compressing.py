"""Every technique on a real, tiny model: what it promises holds for the model that comes out."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.trainer.compress.conftest import FINETUNE, MODEL, TRAIN, Splits, logits
from trainer.compress import clustering, network, pruning, quantization
from trainer.compress.compressed import Compressed
from trainer.compress.compressing import compress
from trainer.errors import TrainerError

Apply = Callable[[str], Compressed]

TECHNIQUES = ("prune60", "pruneauto", "prune2by4", "channels40", "cluster8", "qat", "pcqat60x8")


def thin(model: tf_keras.Model) -> list[str]:
    return network.thinnable(model)


def dense(model: tf_keras.Model) -> list[str]:
    return sorted(network.heads(model) | network.first_convolutions(model))


@pytest.mark.slow
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_it_still_knows_the_digits_and_reports_what_it_did(
    technique: str, compressed: Apply, splits: Splits, fitted: tf_keras.Model
) -> None:
    found = compressed(technique)
    images, labels = splits[1].pixels, splits[1].labels
    assert images is not None
    right = float(np.mean(logits(found.model, images).argmax(1) == labels))
    # Sixty steps do not make up for a tiny network's channels.
    assert right > (0.75 if technique == "channels40" else 0.85)
    details = json.loads(json.dumps(found.details))
    assert details["eval"]["accuracy"] == pytest.approx(right, abs=1e-4)
    float_right = float(np.mean(logits(fitted, images).argmax(1) == labels))
    assert details["float_eval"]["accuracy"] == pytest.approx(float_right, abs=1e-4)
    assert details["technique"] == technique
    assert all(stage["history"] and stage["epochs"] == len(stage["history"]) for stage in details["stages"])
    assert found.quantization_aware is ("qat" in technique)
    if technique in ("qat", "channels40"):  # nothing happens to these models after their last epoch
        assert details["stages"][-1]["history"][-1]["eval_accuracy"] == pytest.approx(right, abs=1e-4)
    wrappers = {type(layer).__name__ for layer in found.model.layers} & {"PruneLowMagnitude", "ClusterWeights"}
    assert not wrappers


def test_the_float_model_is_left_as_it_was(fitted: tf_keras.Model, compressed: Apply) -> None:
    before = [weights.copy() for weights in fitted.get_weights()]
    optimizer = fitted.optimizer
    compressed("prune60")
    assert fitted.optimizer is optimizer
    for old, new in zip(before, fitted.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_pruning_reaches_its_sparsity_and_spares_the_head_and_the_first_convolution(
    compressed: Apply, fitted: tf_keras.Model
) -> None:
    found = compressed("prune60")
    sparsity = network.sparsity(found.model)
    for name in thin(fitted):
        assert sparsity[name] == pytest.approx(0.6, abs=0.01)
    for name in dense(fitted):
        assert sparsity[name] == 0
    stage = found.details["stages"][0]
    assert stage["epochs_raised_from"] == FINETUNE.epochs and stage["steps"] >= 300
    assert stage["end_step"] <= 0.6 * stage["steps"]


def test_the_scan_chooses_a_sparsity_for_each_layer(compressed: Apply, fitted: tf_keras.Model) -> None:
    found = compressed("pruneauto")
    kernels = network.kernels(found.model)
    zeros = sum(np.sum(kernels[name] == 0) for name in thin(fitted))
    assert zeros / sum(kernels[name].size for name in thin(fitted)) == pytest.approx(FINETUNE.sparsity, abs=0.01)
    stage = found.details["stages"][0]
    assert set(stage["scan"]) == set(thin(fitted))
    for name, wanted in stage["sparsity_wanted"].items():
        assert network.sparsity(found.model)[name] == pytest.approx(wanted, abs=0.01)


def test_two_of_four_neighbours_are_zero(compressed: Apply, fitted: tf_keras.Model) -> None:
    kernels = network.kernels(compressed("prune2by4").model)
    for name in thin(fitted):
        assert pruning.keeps_two_by_four(kernels[name])
        assert np.mean(kernels[name] == 0) == pytest.approx(0.5, abs=0.01)
    assert all(np.all(kernels[name] != 0) for name in dense(fitted))
    assert not pruning.keeps_two_by_four(kernels["logits"])
    assert set(compressed("prune2by4").details["stages"][0]["two_by_four"]) == set(thin(fitted))


def test_clusters_leave_few_values(compressed: Apply, fitted: tf_keras.Model) -> None:
    found = compressed("cluster8")
    unique = clustering.unique_weights(found.model)
    assert all(2 <= unique[name] <= 8 for name in thin(fitted))
    assert all(unique[name] > 8 for name in dense(fitted))
    assert found.details["stages"][0]["layers"] == thin(fitted)


def test_channels_are_gone(compressed: Apply, fitted: tf_keras.Model) -> None:
    found = compressed("channels40")
    assert found.details["parameters"] == found.model.count_params() < 0.7 * fitted.count_params()
    assert {value.shape[-1] for value in network.kernels(found.model).values()} == {5, 14, 10}


def codes(kernel: np.ndarray) -> list[int]:
    """The number of different values of each output channel."""
    return [len(np.unique(kernel[..., channel])) for channel in range(kernel.shape[-1])]


def test_quantization_keeps_both_in_spite_of_a_dense_first_layer(compressed: Apply, fitted: tf_keras.Model) -> None:
    kernels = quantization.simulated_kernels(compressed("pcqat60x8").model)
    for name in thin(fitted):
        assert np.mean(kernels[name] == 0) >= 0.595
        assert max(codes(kernels[name])) <= 8
    assert all(np.mean(kernels[name] == 0) < 0.1 for name in dense(fitted))


@pytest.mark.slow
@pytest.mark.parametrize(("technique", "zeros", "values"), [("qat", 0.0, 256), ("pcqat60x8", 0.595, 8)])
def test_the_int8_file_holds_what_the_model_promises(
    technique: str, zeros: float, values: int, compressed: Apply, fitted: tf_keras.Model, splits: Splits
) -> None:
    found = compressed(technique)
    converter = tf.lite.TFLiteConverter.from_keras_model(found.model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.uint8
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    image = interpreter.get_input_details()[0]
    assert image["quantization"] == (pytest.approx(1 / 255), 0)
    interpreter.resize_tensor_input(image["index"], [100, 8, 8, 1])
    interpreter.allocate_tensors()
    assert splits[1].pixels is not None and splits[1].labels is not None
    interpreter.set_tensor(image["index"], splits[1].pixels[:100])
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax(1)
    assert np.mean(answer == logits(found.model, splits[1].pixels[:100]).argmax(1)) >= 0.97
    hidden = next(
        interpreter.get_tensor(one["index"])
        for one in interpreter.get_tensor_details()
        if tuple(one["shape"]) == (24, 4 * 4 * 8)
    )
    assert hidden.dtype == np.int8
    assert np.mean(hidden == 0) >= zeros
    assert len(np.unique(hidden)) <= values


def test_the_same_seed_gives_the_same_weights(compressed: Apply, fitted: tf_keras.Model, splits: Splits) -> None:
    again = compress("channels40", fitted, *splits, FINETUNE, TRAIN, MODEL)
    for one, other in zip(compressed("channels40").model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_unknown_technique_is_refused(fitted: tf_keras.Model, splits: Splits) -> None:
    with pytest.raises(TrainerError, match="did you mean 'prune50'"):
        compress("pruned50", fitted, *splits, FINETUNE, TRAIN, MODEL)
