from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.certify.budget import Budget, judge
from serving.errors import ServingError
from serving.measure.operations import Operations
from tests.serving.certify.certify_rows import figures, measured, timing


def test_what_keeps_every_limit_passes() -> None:
    verdict = judge(
        measured(), Budget(max_bytes=93_880, max_gz_bytes=79_847, min_speedup=5.0, require_gpu_delegate=True)
    )
    assert verdict.ok and verdict.reason == ""


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"delta": -0.014, "ci95_low": -0.0151},
            "Accuracy may have dropped by 1.51 points (measured -1.40, lower end of 95 %, 10,000 images), "
            "allowed are 1.50.",
        ),
        (
            {"delta": -0.002, "ci95_low": -0.03, "images": 300},
            "Accuracy may have dropped by 3.00 points (measured -0.20, lower end of 95 %, 300 images), "
            "allowed are 1.50. The images are too few to tell; measure on more.",
        ),
        ({"worst_class_drop": 0.051}, "Class 3 drops by 5.10 points (1,000 images), allowed are 5.00."),
        (
            {"top1_agreement": 0.9699},
            "It agrees with the reference on 96.99 % of the images, required are 97.00 %.",
        ),
    ],
)
def test_a_broken_limit_is_named_with_value_and_threshold(values, sentence: str) -> None:
    both = {"choose": figures(**values), "report": figures(**values)}
    verdict = judge(measured(**both), Budget())
    assert (verdict.status, verdict.reason) == ("refused", sentence)


def test_all_broken_limits_are_named() -> None:
    broken = figures(ci95_low=-0.5, worst_class_drop=0.5, top1_agreement=0.5, max_abs_difference=0.5)
    verdict = judge(measured("onnx_float32", choose=broken, report=broken), Budget())
    assert [word in verdict.reason for word in ("Accuracy", "Class 3", "agrees", "probability")] == [True] * 4


def test_a_single_image_is_never_held_against_a_class() -> None:
    one_lost = figures(worst_class_drop=0.1, worst_class_images=10)
    two_lost = figures(worst_class_drop=0.2, worst_class_images=10)
    assert judge(measured(choose=one_lost, report=one_lost), Budget()).ok
    assert not judge(measured(choose=two_lost, report=two_lost), Budget()).ok


def test_parity_is_asked_of_float_forms_that_were_not_trained_further() -> None:
    far = {"choose": figures(max_abs_difference=2e-4), "report": figures(max_abs_difference=2e-4)}
    verdict = judge(measured("tflite_float32", **far), Budget())
    assert (
        verdict.reason
        == "A probability differs from the reference by 0.0002, allowed are 0.0001 for a form in 32-bit floats."
    )
    assert judge(measured("tflite_float16", **far), Budget()).ok
    assert judge(measured("tflite_float32", **far), Budget(), technique="cluster16").ok


def test_agreement_is_asked_of_trained_variants_by_their_own_limit() -> None:
    low = {"choose": figures(top1_agreement=0.94), "report": figures(top1_agreement=0.94)}
    assert judge(measured(**low), Budget(), technique="prune80").ok
    assert not judge(measured(**low), Budget()).ok
    assert not judge(measured(**low), Budget(min_top1_agreement_trained=0.95), technique="prune80").ok


def test_sizes_are_asked_of_mobile_files_only() -> None:
    budget = Budget(max_bytes=90_000, max_gz_bytes=70_000)
    assert judge(measured(), budget).reason == (
        "It takes 93,880 bytes, allowed are 90,000. It takes 79,847 bytes after gzip, allowed are 70,000."
    )
    assert judge(measured("onnx_int8"), budget).ok


def test_speed_on_the_cpu_is_not_asked_of_forms_for_a_gpu() -> None:
    slow = {"timings": {1: timing(ratio=2.0)}}
    verdict = judge(measured(**slow), Budget(min_speedup=8))
    assert verdict.reason == "It is 2.00 times as fast as the reference at batch size 1, required are 8."
    assert judge(measured("tflite_float16", **slow), Budget(min_speedup=8)).ok
    assert judge(measured("tftrt_fp16", **slow), Budget(min_speedup=8)).ok
    assert judge(measured(timings={}), Budget(min_speedup=8)).ok


def test_the_gpu_delegate_is_asked_of_float_mobile_files() -> None:
    refusing = {"operations": Operations(1, 1, 0.0, 1, gpu_delegate_ok=False)}
    budget = Budget(require_gpu_delegate=True)
    assert "GPU delegate" in judge(measured("tflite_float16", **refusing), budget).reason
    assert "GPU delegate" in judge(measured("tflite_float16", operations=None), budget).reason
    assert judge(measured("tflite_int8", **refusing), budget).ok
    assert judge(measured("tflite_float16", **refusing), Budget()).ok


def test_one_split_decides_and_the_other_is_told_where_it_differs() -> None:
    bad = figures(ci95_low=-0.02)
    verdict = judge(measured(choose=figures(), report=bad), Budget())
    assert verdict.ok and verdict.reason.startswith("On the published split it would be refused: Accuracy")
    verdict = judge(measured(choose=bad, report=figures()), Budget())
    assert verdict.status == "refused"
    assert verdict.reason.endswith("On the published split its quality would pass.")


def test_the_reference_passes_and_what_was_not_measured_failed() -> None:
    assert judge(measured("saved_model"), Budget(min_speedup=100), is_reference=True).ok
    verdict = judge(measured(status="failed", reason="It crashed."), Budget())
    assert (verdict.status, verdict.reason) == ("failed", "It crashed.")
    assert judge(measured(choose=None), Budget()).status == "failed"


def test_limits_can_be_switched_off() -> None:
    broken = figures(ci95_low=-0.5, worst_class_drop=0.5, top1_agreement=0.5, max_abs_difference=0.5)
    nothing = Budget(None, None, None, None, None)
    assert judge(measured("tflite_float32", choose=broken, report=broken), nothing).ok


@pytest.mark.parametrize(
    "values",
    [
        {"max_accuracy_drop": 1.5},
        {"max_accuracy_drop": -0.1},
        {"min_top1_agreement": 97},
        {"max_bytes": 0},
        {"min_speedup": -1},
    ],
)
def test_limits_that_cannot_be_meant_are_refused(values) -> None:
    with pytest.raises(ServingError, match=r"expected a (share|number)"):
        Budget(**values)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(-1, 0), st.floats(0, 1), st.floats(0, 1), st.floats(0.0, 0.2))
def test_a_looser_budget_never_refuses_more(low: float, agreement: float, limit: float, more: float) -> None:
    found = measured(choose=figures(ci95_low=low, delta=low / 2, top1_agreement=agreement))
    tight = Budget(max_accuracy_drop=limit, min_top1_agreement=max(0.0, 1 - limit))
    loose = dataclasses.replace(
        tight, max_accuracy_drop=min(1.0, limit + more), min_top1_agreement=max(0.0, 1 - limit - more)
    )
    assert judge(found, loose).ok or not judge(found, tight).ok
