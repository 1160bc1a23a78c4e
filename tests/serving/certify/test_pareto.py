from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.certify.pareto import front, non_dominated
from tests.serving.certify.certify_rows import absent, row

points = st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=15)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def dominates(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return left != right and all(a <= b for a, b in zip(left, right, strict=True))


@relaxed
@given(points)
def test_nothing_on_the_front_is_dominated_and_all_else_is(cloud: list[tuple[int, int, int]]) -> None:
    kept = non_dominated(cloud)
    assert bool(kept) == bool(cloud)
    for index, point in enumerate(cloud):
        beaten = any(dominates(other, point) for other in cloud)
        assert (index in kept) == (not beaten)
        assert beaten == any(dominates(cloud[other], point) for other in kept)


@relaxed
@given(points, st.randoms())
def test_the_front_does_not_depend_on_the_order(cloud: list[tuple[int, int, int]], random) -> None:
    shuffled = list(cloud)
    random.shuffle(shuffled)
    before = sorted(cloud[index] for index in non_dominated(cloud))
    assert before == sorted(shuffled[index] for index in non_dominated(shuffled))


def test_accuracy_goes_up_size_and_time_go_down() -> None:
    rows = [
        row("saved_model", accuracy=0.9, gz_bytes=900, cpu_ms_b1_p50=3.0),
        row("tflite_float32", accuracy=0.9, gz_bytes=300, cpu_ms_b1_p50=0.6),
        row("tflite_int8", accuracy=0.89, gz_bytes=80, cpu_ms_b1_p50=0.2),
        row("onnx_int8", accuracy=0.88, gz_bytes=80, cpu_ms_b1_p50=0.4),
        row("openvino_float32", accuracy=0.9, gz_bytes=300, cpu_ms_b1_p50=0.6),
    ]
    assert front(rows) == ["tflite_float32", "tflite_int8", "openvino_float32"]


def test_only_what_passed_takes_part() -> None:
    rows = [
        row("tflite_int8", accuracy=0.99, gz_bytes=1, status="refused", reason="too bad"),
        row("tflite_float32", cpu_ms_b1_p50=None),
        row("onnx_float32", accuracy=0.8, cpu_ms_b1_p50=0.01),
        absent("tftrt_fp16", "skipped", "no GPU"),
    ]
    # Without a time for all, time does not count.
    assert front(rows) == ["tflite_float32"]
    assert front([]) == []
