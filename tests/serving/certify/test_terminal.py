from __future__ import annotations

import pytest
from rich.console import Console

from serving.certify.picks import pick
from serving.certify.terminal import picks_table, results_table
from tests.serving.certify.certify_rows import absent, row

ROWS = [
    row("saved_model", delta=0.0, ci95_low=0.0, ci95_high=0.0, bytes=1_911_000),
    row("tflite_float16", bytes=163_416, cpu_ms_b1_p50=0.5743, contention=1.5, delta=-0.0053, ci95_low=-0.0093),
    row("tflite_int8", status="refused", reason="Class 3 drops by 9 points."),
    row("tflite_int16x8"),
    absent("tftrt_fp16", "skipped", "[no] GPU"),
]


def shown(renderable, width: int) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_figures_marks_and_reasons_are_readable() -> None:
    text = shown(results_table(ROWS, pick(ROWS, "saved_model"), ["tflite_int16x8"], "resnet8", width=140), 140)
    marked = [line.strip() for line in text.splitlines() if line.strip()[:1] in ("★", "•")]
    lines = {line.split()[1]: line for line in marked}
    assert "resnet8" in text
    assert "1,911.0" in lines["saved_model"] and "reference" in lines["saved_model"]
    assert "-0.53 (-0.93 … +0.10)" in lines["tflite_float16"] and "0.574?" in lines["tflite_float16"]
    assert lines["tflite_int16x8"].startswith("•")
    assert "tflite_int8: Class 3 drops by 9 points." in text
    assert "tftrt_fp16: [no] GPU" in text
    assert "int16x8 has no fast kernels" in text
    assert "★ picked" in text and "• on the Pareto front" in text and "? the machine was busy" in text


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_narrow_terminal_loses_columns_but_no_words(width: int) -> None:
    text = shown(results_table(ROWS, width=width), width)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text.replace(" … ", "")
    assert all(one.variant in text for one in ROWS)
    assert "refused" in text and "0.9000" in text
    assert ("x b32" in text) == (width == 140)


def test_an_empty_table_is_a_table() -> None:
    text = shown(results_table([], width=80), 80)
    assert "variant" in text and "★" not in text


def test_picks_say_why() -> None:
    text = shown(picks_table(pick(ROWS, "saved_model")), 120)
    assert "mobile_gpu" in text and "tflite_float16" in text
    assert "tftrt_fp16 is skipped: [no] GPU" in text
