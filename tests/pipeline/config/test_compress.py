"""The section `compress`: what it refuses before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loading import load
from pipeline.errors import ConfigError

BASE = "name: small\ndata: {source: digits}\ntransform: {size: [8, 8], channels: 1}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(BASE + text)
    return path


def test_variants_and_budget_are_read(tmp_path: Path) -> None:
    text = (
        "compress:\n  variants: [tflite_int8, qat_tflite_int8]\n  budget: {max_accuracy_drop: 0.02, max_bytes: 90000}\n"
    )
    compress = load(write(tmp_path, text)).config.compress
    assert compress.variants == ("tflite_int8", "qat_tflite_int8")
    assert (compress.budget.max_accuracy_drop, compress.budget.max_bytes) == (0.02, 90_000)


def test_without_the_section_nothing_is_compressed(tmp_path: Path) -> None:
    assert load(write(tmp_path, "")).config.compress.variants == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("compress: {variants: [tflite_int9]}", "did you mean tflite_int8"),
        ("compress: {variants: [qat_onnx_float32]}", "quantization-aware"),
        ("compress: {variants: [tflite_int8, tflite_int8]}", "twice"),
        ("compress: {choose_split: test}", "flatter"),
        ("compress: {budget: {max_accuracy_drop: -0.1}}", "max_accuracy_drop"),
        ("compress: {budget: {max_byte: 3}}", "max_bytes"),
        (
            "compress: {variants: [tflite_int8]}\ndata: {source: digits, split: {train: 0.8, eval: 0.2, test: 0}}",
            "data",
        ),
        ("push: {edge: ../elsewhere}", "inside the work directory"),
        ("push: {edge: served}", "serving and edge are both served; expected folders apart"),
        ("push: {forms: ./edge/}", "edge and forms are both edge"),
        ("push: {forms: served/1}", "serving and forms are served and served/1, one inside the other"),
        ("push: {serving: forms/model}", "forms and serving are forms and forms/model"),
        ("push: {forms: /tmp/forms}", "inside the work directory"),
        ("push: {forms: compressed}", "where runs keep their own files"),
        ("push: {forms: ''}", "not empty"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(write(tmp_path, text))


def test_a_split_that_is_empty_can_neither_choose_nor_report(tmp_path: Path) -> None:
    text = BASE.replace("{source: digits}", "{source: digits, split: {train: 0.8, eval: 0.2, test: 0}}")
    path = tmp_path / "small.yaml"
    path.write_text(
        text + "evaluate: {split: eval}\nbulk_infer: {enabled: false}\ncompress: {variants: [tflite_int8]}\n"
    )
    with pytest.raises(ConfigError, match=r"compress\.report_split is test, but data.split.test is 0"):
        load(path)
