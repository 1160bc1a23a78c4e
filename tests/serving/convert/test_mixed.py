from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.convert import worker
from serving.convert.job import Conversion, Outcome
from serving.measure.images import ImageBatches
from tests.serving.convert import networks


@pytest.fixture(scope="module")
def hard_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.save(tmp_path_factory.mktemp("source") / "hard", networks.hard)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that the float model gets right, all of them."""
    pixels = np.concatenate([part for part, _ in networks.images(64, seed=2).read()])
    labels = np.asarray(networks.hard(networks.unit(pixels))).argmax(axis=1)
    return ImageBatches.of_arrays(pixels, labels).save(tmp_path_factory.mktemp("labeled") / "labeled.npz")


@pytest.fixture(scope="module")
def strict(hard_model: Path, labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return convert(hard_model, tmp_path_factory.mktemp("strict"), labeled, budget=0)


def convert(model: Path, out: Path, labeled: Path, keep_float: tuple[str, ...] = (), **options: Any) -> Outcome:
    return worker.run(Conversion("tflite_mixed", model, out, labeled, keep_float=keep_float, options=options))


def types(path: Path | None) -> dict[str, Any]:
    """dtype of the output of each operation, by operation and its number."""
    import tensorflow as tf

    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(str(path), experimental_op_resolver_type=resolver)
    found: dict[str, Any] = {}
    for operation in interpreter._get_ops_details():
        name = operation["op_name"]
        number = sum(key.startswith(name) for key in found)
        found[f"{name} {number}"] = interpreter._get_tensor_details(operation["outputs"][0], 0)["dtype"]
    return found


def test_the_hard_layer_stays_in_floats_and_the_accuracy_holds(strict: Outcome) -> None:
    assert strict.status == "ok", strict.reason
    details = strict.details
    assert details["float_accuracy"] == 1.0
    assert details["accuracy"] == 1.0
    assert details["steps"][0]["accuracy"] < 0.9, "in integers alone the model must be broken, or this tests nothing"
    assert [step["kept_float"] for step in details["steps"]] == list(range(len(details["steps"])))
    assert "hard" in " ".join(details["kept_float"][:2])


def test_the_order_is_that_of_the_measured_sensitivities(strict: Outcome) -> None:
    shifts = [one["shift"] for one in strict.details["sensitivities"]]
    names = [one["node"] for one in strict.details["sensitivities"]]
    assert shifts == sorted(shifts, reverse=True)
    assert strict.details["kept_float"] == names[: len(strict.details["kept_float"])]
    dense = [shift for name, shift in zip(names, shifts, strict=True) if "hard" in name]
    conv = [shift for name, shift in zip(names, shifts, strict=True) if "easy" in name]
    assert min(dense) > 10 * max(conv)


def test_layers_that_do_no_harm_are_in_integers(hard_model: Path, labeled: Path, tmp_path: Path) -> None:
    outcome = convert(hard_model, tmp_path, labeled, budget=0.1)
    assert outcome.status == "ok", outcome.reason
    found = types(outcome.path)
    assert found["CONV_2D 0"] == np.int8
    assert found["FULLY_CONNECTED 0"] == np.float32


def test_a_budget_of_everything_keeps_nothing(hard_model: Path, labeled: Path, tmp_path: Path) -> None:
    outcome = convert(hard_model, tmp_path, labeled, budget=1)
    assert outcome.details["kept_float"] == []
    assert {dtype for name, dtype in types(outcome.path).items() if name.startswith("FULLY")} == {np.int8}


def test_operations_can_be_kept_by_name(strict: Outcome, hard_model: Path, labeled: Path, tmp_path: Path) -> None:
    node = next(one["node"] for one in strict.details["sensitivities"] if one["operation"] == "CONV_2D")
    outcome = convert(hard_model, tmp_path, labeled, (node,), budget=1)
    assert outcome.details["kept_float"] == [node]
    assert types(outcome.path)["CONV_2D 0"] == np.float32


def test_unknown_operations_and_budgets(hard_model: Path, labeled: Path, tmp_path: Path) -> None:
    assert "no operation 'conv9' to keep" in convert(hard_model, tmp_path, labeled, ("conv9",)).reason
    for budget in (-0.1, 1.5, "small", True):
        assert "`budget` is" in convert(hard_model, tmp_path, labeled, budget=budget).reason


def test_labeled_images_of_their_own(hard_model: Path, labeled: Path, tmp_path: Path) -> None:
    other = networks.images(8, (6, 6, 3)).save(tmp_path / "other.npz")
    assert "the labeled images are (6, 6, 3)" in convert(hard_model, tmp_path, labeled, images=str(other)).reason
    missing = convert(hard_model, tmp_path, labeled, images=str(tmp_path / "none.npz"))
    assert "the labeled images cannot be used" in missing.reason


def test_a_quantization_aware_model_is_refused(labeled: Path, tmp_path: Path) -> None:
    source = networks.save(tmp_path / "m", networks.quantization_aware)
    assert "quantization aware already" in convert(source, tmp_path / "out", labeled).reason
