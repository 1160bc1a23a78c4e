from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from serving.certify.picks import pick
from serving.certify.picture import draw
from serving.certify.table import Row
from tests.serving.certify.certify_rows import absent, row

FORMS = ("tflite_float32", "tflite_float16", "tflite_int8", "onnx_int8", "openvino_float32")


def table(count: int) -> list[Row]:
    rows = [row("saved_model", gz_bytes=900_000, cpu_ms_b1_p50=3.0)]
    for index in range(count - 1):
        technique = "" if index < len(FORMS) else f"prune{index}_"
        rows.append(
            row(
                technique + FORMS[index % len(FORMS)],
                accuracy=0.9 - 0.002 * index,
                gz_bytes=300_000 - 10_000 * index,
                cpu_ms_b1_p50=0.2 + 0.07 * (index % 7),
            )
        )
    return rows


def words(path: Path) -> str:
    return " ".join(text for node in ElementTree.parse(path).iter() if (text := (node.text or "").strip()))


def test_names_front_and_footnote_are_written(tmp_path: Path) -> None:
    rows = [*table(5), absent("tftrt_fp16", "skipped", "no GPU")]
    picks = pick(rows, "saved_model")
    vector, pixels = draw(rows, tmp_path / "deep" / "results.x", title="All forms", note="10 images", picks=picks)
    text = words(vector)
    for word in (*(one.variant for one in rows), "All forms", "10 images", "Pareto front", "kB after gzip", "Bold:"):
        assert word in text
    assert "refused" not in text
    width, height = struct.unpack(">II", pixels.read_bytes()[16:24])
    assert width > 1500 and height > 800


def test_the_same_table_gives_the_same_picture(tmp_path: Path) -> None:
    first, second = (draw(table(3), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_many_variants_get_short_names(tmp_path: Path) -> None:
    text = words(draw(table(25), tmp_path / "many")[0])
    assert "prune22_tflite_int8" not in text
    assert "prune22 int8" in text and "SavedModel" in text


def test_a_refused_variant_far_below_does_not_flatten_the_picture(tmp_path: Path) -> None:
    rows = [*table(4), row("distill_tflite_int8", accuracy=0.2, status="refused", reason="too bad")]
    text = words(draw(rows, tmp_path / "low")[0])
    assert "distill_tflite_int8 ↓ 20.0 %" in text
    assert "40" not in text.split()


@pytest.mark.parametrize(
    ("rows", "words_expected"),
    [
        ([], ["No form was measured.", "nothing to show"]),
        ([absent("tflite_int8", "failed", "crashed")], ["No form was measured.", "Not shown, failed: tflite_int8."]),
        ([row("saved_model")], ["saved_model", "Pareto front"]),
        ([row("tflite_int8", status="refused", reason="bad")], ["No form passed.", "refused"]),
        ([row("tflite_int8", cpu_ms_b1_p50=None)], ["Accuracy and download"]),
        ([row("tflite_int8", accuracy=0.0)], ["tflite_int8"]),
    ],
)
def test_odd_tables_are_drawn_too(tmp_path: Path, rows: list[Row], words_expected: list[str]) -> None:
    text = words(draw(rows, tmp_path / "odd")[0])
    assert all(word in text for word in words_expected)
    assert ("CPU ms" in text) == any(one.cpu_ms_b1_p50 for one in rows)
