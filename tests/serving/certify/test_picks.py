from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.certify.picks import TARGETS, listed_only, pick
from serving.certify.table import Row
from serving.errors import ServingError
from tests.serving.certify.certify_rows import absent, row

BASE = row("saved_model", ratio=1.0, ratio_b32=1.0, cpu_ms_b1_p50=3.0)
FLOAT32 = row("tflite_float32", bytes=316_000, gz_bytes=290_000, cpu_ms_b1_p50=0.64)
FLOAT16 = row("tflite_float16", bytes=163_000, gz_bytes=146_000, cpu_ms_b1_p50=0.57)
INT8 = row("tflite_int8", bytes=94_000, gz_bytes=79_800, cpu_ms_b1_p50=0.19, ratio=16.0)


def chosen(*rows: Row) -> dict[str, str]:
    return {target: entry.variant for target, entry in pick([BASE, *rows], "saved_model").items()}


def test_every_target_gets_something_and_one_sentence() -> None:
    found = pick([BASE, FLOAT32, FLOAT16, INT8], "saved_model")
    assert tuple(found) == TARGETS
    assert {target: entry.variant for target, entry in found.items()} == {
        "mobile_cpu": "tflite_int8",
        "mobile_gpu": "tflite_float16",
        "mobile_size": "tflite_int8",
        "server_cpu": "saved_model",
        "server_gpu": "saved_model",
    }
    assert found["mobile_cpu"].reason == (
        "least CPU time of the TFLite files that pass: 0.19 ms per image, 16.0 times as fast as saved_model."
    )
    assert not any(entry.fallback for entry in found.values())


def test_what_did_not_pass_is_never_picked() -> None:
    refused = row("tflite_int8", cpu_ms_b1_p50=0.1, gz_bytes=1, status="refused", reason="too bad")
    assert "tflite_int8" not in chosen(FLOAT16, refused).values()


@pytest.mark.parametrize(
    "listed",
    [
        row("tflite_int16x8", cpu_ms_b1_p50=0.01, gz_bytes=1, ratio_b32=99.0),
        row("prune2by4_tflite_int8", cpu_ms_b1_p50=0.01, gz_bytes=1),
        row("tflite_float16", cpu_ms_b1_p50=0.01, gz_bytes=1, bytes=1, flex_operations=2),
        row("prune2by4_saved_model", ratio_b32=99.0),
    ],
)
def test_some_are_listed_but_never_picked(listed: Row) -> None:
    assert listed_only(listed)
    assert listed.variant not in chosen(INT8, FLOAT32, listed).values()


def test_of_two_as_good_the_less_changed_is_taken() -> None:
    trained = row("qat_tflite_int8", cpu_ms_b1_p50=0.185, gz_bytes=79_790)
    assert chosen(trained, INT8)["mobile_cpu"] == "tflite_int8"
    assert chosen(trained, INT8)["mobile_size"] == "tflite_int8"
    faster = row("channels30_tflite_int8", cpu_ms_b1_p50=0.12, gz_bytes=41_000)
    assert chosen(faster, INT8)["mobile_cpu"] == "channels30_tflite_int8"
    dynamic = row("tflite_dynamic", cpu_ms_b1_p50=0.19, gz_bytes=79_800)
    assert chosen(INT8, dynamic)["mobile_cpu"] == "tflite_dynamic"


def test_the_gpu_gets_a_float_file_that_its_delegate_takes() -> None:
    refused = row("tflite_float16", bytes=163_000, gpu_delegate_ok=False)
    assert chosen(FLOAT32, refused)["mobile_gpu"] == "tflite_float32"
    found = pick([BASE, INT8, refused], "saved_model")["mobile_gpu"]
    assert found.variant == "saved_model" and found.fallback
    assert found.reason.startswith("the GPU delegate takes none of the float files")


@pytest.mark.parametrize(("ratio", "expected"), [(1.19, "saved_model"), (1.2, "onnx_float32"), (5.0, "onnx_float32")])
def test_a_server_changes_its_runtime_only_for_a_gain(ratio: float, expected: str) -> None:
    other = row("onnx_float32", ratio_b32=ratio)
    fast_mobile = row("tflite_int8", ratio_b32=9.0)
    found = pick([BASE, other, fast_mobile], "saved_model")["server_cpu"]
    assert found.variant == expected
    assert f"{ratio:.2f} times as fast at batch size 32" in found.reason


def test_a_smaller_saved_model_counts_for_the_server() -> None:
    assert chosen(row("channels30_saved_model", ratio_b32=1.5))["server_cpu"] == "channels30_saved_model"


def test_the_gpu_server_gets_engines_or_the_reason_why_not() -> None:
    skipped = absent("tftrt_fp16", "skipped", "this machine has no GPU")
    found = pick([BASE, skipped], "saved_model")["server_gpu"]
    assert (found.variant, found.reason) == ("saved_model", "tftrt_fp16 is skipped: this machine has no GPU")
    listed = pick([BASE, row("prune2by4_tftrt_fp16")], "saved_model")["server_gpu"]
    assert listed.variant == "saved_model" and "never picked by itself: 2:4 sparsity" in listed.reason
    engines = [row("tftrt_fp16", ratio_b32=3.0), row("tftrt_fp32", ratio_b32=2.0)]
    assert chosen(*engines)["server_gpu"] == "tftrt_fp16"


def test_if_nothing_passes_the_float_form_ships_and_the_reason_says_so() -> None:
    bad = [row(name, status="refused", reason="bad") for name in ("tflite_float32", "tflite_int8")]
    found = pick([BASE, *bad], "saved_model")
    assert {entry.variant for entry in found.values()} == {"saved_model"}
    assert found["mobile_cpu"].fallback
    assert found["mobile_cpu"].reason == (
        "no TFLite file passes (tflite_float32 refused, tflite_int8 refused); the float form saved_model ships instead."
    )
    assert pick([BASE], "saved_model")["mobile_size"].reason.startswith("no TFLite file was made")


def test_without_a_reference_there_is_no_pick() -> None:
    with pytest.raises(ServingError, match="'saved_model' has no row"):
        pick([INT8], "saved_model")


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tflite_int8", "tflite_float16", "tflite_int16x8", "onnx_int8", "tftrt_fp16"]),
            st.sampled_from(["", "qat_", "prune2by4_"]),
            st.sampled_from(["ok", "refused"]),
            st.floats(0.01, 10),
        ),
        max_size=8,
        unique_by=lambda entry: entry[:2],
    )
)
def test_whatever_the_table_only_what_passed_ships(entries) -> None:
    rows = [
        row(
            technique + form,
            status=status,
            reason="bad" if status != "ok" else "",
            cpu_ms_b1_p50=time,
            ratio_b32=1 / time,
        )
        for form, technique, status, time in entries
    ]
    by_name = {one.variant: one for one in [BASE, *rows]}
    for entry in pick(list(by_name.values()), "saved_model").values():
        assert by_name[entry.variant].ok and entry.reason.endswith((".", "bad"))
        assert not listed_only(by_name[entry.variant])
