from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.certify import table
from serving.certify.table import COLUMNS, Row, row_of
from serving.errors import ServingError
from tests.serving.certify.certify_rows import absent, figures, measured, row, timing

ISSUE_COLUMNS = {
    *("variant", "technique", "runtime", "status", "reason", "bytes", "gz_bytes", "sha256"),
    *("parameters", "multiply_adds", "sparsity", "accuracy", "ci95_low", "ci95_high", "worst_class_drop"),
    *("top1_agreement", "max_abs_difference", "throughput", "ratio", "contention", "gpu_delegate_ok"),
    *(f"{kind}_ms_b{batch}_{share}" for kind in ("cpu", "wall") for batch in (1, 32) for share in ("p50", "p95")),
}

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=20)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5)
rows_strategy = st.lists(
    st.builds(
        Row,
        variant=texts,
        technique=texts,
        form=texts,
        runtime=texts,
        status=st.sampled_from(["ok", "refused", "skipped", "failed"]),
        reason=texts.filter(bool),
        bytes=st.none() | st.integers(),
        accuracy=numbers,
        worst_class=st.none() | texts.filter(bool),
        gpu_delegate_ok=st.none() | st.booleans(),
    ),
    max_size=4,
    unique_by=lambda one: one.variant,
)


def test_the_table_has_all_columns() -> None:
    assert set(COLUMNS) >= ISSUE_COLUMNS
    assert len(COLUMNS) == len(set(COLUMNS))


def test_a_measurement_becomes_a_row_of_the_published_split() -> None:
    measurement = measured(
        report=figures(accuracy=0.91, delta=-0.01, worst_class=2, worst_class_drop=0.04),
        timings={1: timing(ratio=16.0, contention=1.1), 32: timing(32, ratio=4.0), 8: timing(8, ratio=9.0)},
        remark="Something else.",
    )
    found = row_of(measurement, "", "tflite", reason="Passed.", classes=("cat", "dog", "owl"))
    assert (found.accuracy, found.delta, found.worst_class, found.worst_class_drop) == (0.91, -0.01, "owl", 0.04)
    assert (found.ratio, found.ratio_b32, found.contention, found.throughput) == (16.0, 4.0, 1.1, 32_000)
    assert (found.cpu_ms_b1_p95, found.wall_ms_b32_p50, found.rounds) == (1.1, 1.0, 200)
    assert (found.bytes, found.parameters, found.sparsity, found.gpu_delegate_ok) == (93_880, 78_000, 0.25, True)
    assert found.reason == "Passed. Something else."
    assert row_of(measurement, "", "tflite").worst_class == "2"


def test_a_failed_measurement_becomes_a_row_without_figures() -> None:
    found = row_of(measured(status="failed", reason="It crashed."), "qat", "tflite")
    assert (found.status, found.reason, found.technique, found.accuracy) == ("failed", "It crashed.", "qat", None)


def test_what_was_not_measured_stays_empty() -> None:
    found = row_of(measured(operations=None, timings={}), "", "tflite")
    assert found.parameters is None and found.cpu_ms_b1_p50 is None and found.ok


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(rows_strategy)
def test_csv_and_json_give_back_the_rows(tmp_path_factory, rows: list[Row]) -> None:
    root = tmp_path_factory.mktemp("table")
    assert table.read_csv(table.write_csv(rows, root / "table.csv")) == rows
    about = {"budget": {"max_bytes": 3}, "picks": ["x"]}
    assert table.read_json(table.write_json(rows, root / "table.json", about)) == (rows, about)
    assert sorted(path.name for path in root.iterdir()) == ["table.csv", "table.json"]


def test_csv_is_plain_for_other_programs(tmp_path: Path) -> None:
    path = table.write_csv([row("tflite_int8"), absent("tftrt_fp16", "skipped", "no GPU, here")], tmp_path / "t.csv")
    header, first, second = path.read_bytes().decode().splitlines()
    assert header == ",".join(COLUMNS)
    assert first.startswith("tflite_int8,,tflite_int8,tflite,ok,,100000,80000,")
    assert second.startswith('tftrt_fp16,,tftrt_fp16,tftrt,skipped,"no GPU, here",,,')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("gz_bytes", "gzip"), "has the columns"),
        (lambda text: text.replace(",100000,", ",many,"), "row 2: bytes is 'many', expected a whole number or nothing"),
        (lambda text: text.replace(",100000,", ",1.5,"), "bytes is '1.5'"),
        (lambda text: text.replace(",0.9,", ",nan,"), "accuracy is nan, expected a finite number"),
        (lambda text: text.replace(",true,", ",yes,"), "gpu_delegate_ok is 'yes', expected true or false"),
        (lambda text: text.replace(",ok,", ",fine,"), "status is 'fine', expected one of ok, refused"),
        (lambda text: text.replace(",ok,", ",failed,"), "failed without a reason"),
        (lambda text: text[: text.index(",80000")], r"7 cells, expected"),
        (lambda text: "", "has the columns nothing"),
        (lambda text: text + text.splitlines()[1] + "\r\n", "'tflite_int8' has more than one row"),
        (lambda text: text.replace("tflite_int8,", '"tflite_int8,', 1), "Expected CSV"),
    ],
)
def test_damaged_csv_is_refused(tmp_path: Path, change, message: str) -> None:
    path = table.write_csv([row("tflite_int8")], tmp_path / "table.csv")
    path.write_text(change(path.read_bytes().decode()), newline="")
    with pytest.raises(ServingError, match=message):
        table.read_csv(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {**content, "schema": 2}, "no results table of schema 1"),
        (lambda content: content["rows"], "no results table"),
        (lambda content: {**content, "about": []}, "an object in about"),
        (lambda content: {**content, "rows": [{**content["rows"][0], "color": 1}]}, r"unknown: \['color'\]"),
        (lambda content: {**content, "rows": [{"variant": "x"}]}, "missing or unknown"),
        (lambda content: {**content, "rows": [{**content["rows"][0], "bytes": "7"}]}, "bytes is '7'"),
        (lambda content: {**content, "rows": [{**content["rows"][0], "bytes": True}]}, "bytes is True"),
        (lambda content: {**content, "rows": content["rows"] * 2}, "more than one row"),
    ],
)
def test_damaged_json_is_refused(tmp_path: Path, change, message: str) -> None:
    path = table.write_json([row("tflite_int8")], tmp_path / "table.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ServingError, match=message):
        table.read_json(path)


def test_files_that_are_missing_or_cut_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="cannot be read"):
        table.read_csv(tmp_path / "none.csv")
    path = table.write_json([row("tflite_int8")], tmp_path / "table.json")
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ServingError, match="truncated"):
        table.read_json(path)


def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = table.write_json([], tmp_path / "table.json")
    before = path.read_bytes()
    for about in ({"x": float("nan")}, {"x": {1, 2}}):
        with pytest.raises(ServingError, match="cannot be written"):
            table.write_json([], path, about)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [{"accuracy": float("inf")}, {"bytes": 1.5}, {"status": "maybe"}, {"reason": None}])
def test_rows_hold_only_what_their_columns_say(change) -> None:
    with pytest.raises(ServingError):
        dataclasses.replace(row("tflite_int8"), **change)
