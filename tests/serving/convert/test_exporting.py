from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.convert import running
from serving.convert.exporting import export_model
from serving.convert.job import Conversion, Outcome
from serving.errors import ConversionError, ServingError
from serving.forms.loading import load_form
from tests.serving.convert import networks


@pytest.fixture()
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Conversion]:
    """Conversions that were asked for; each makes one file."""
    asked: list[Conversion] = []

    def convert(job: Conversion, timeout_seconds: float = 300) -> Outcome:
        asked.append(job)
        if job.options.get("fail"):
            return Outcome(job.form, "failed", "no good", None, 1.0)
        job.out_dir.mkdir()
        names = {"openvino_float32": ["model.bin", "model.xml"], "tftrt_fp16": ["saved_model.pb"]}
        for name in names.get(job.form, ["model.tflite"]):
            (job.out_dir / name).write_text(f"{job.form} {name}")
        return Outcome(job.form, "ok", "", job.out_dir, 1.0, {"seed": job.options["seed"]})

    monkeypatch.setattr(running, "convert", convert)
    return asked


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_a_real_model_becomes_a_real_file(tmp_path: Path) -> None:
    source = networks.save(tmp_path / "model", networks.logits)
    out = tmp_path / "app" / "flowers.tflite"
    outcome = export_model(source, "tflite_int8", out, networks.images(40), seed=11, count=16)
    assert outcome.status == "ok", outcome.reason
    assert outcome.path == out
    assert names(out.parent) == ["flowers.tflite"]
    assert outcome.details["representative_images"] == 16
    assert outcome.details["seed"] == 11
    pixels = next(networks.images().read())[0]
    expected = np.asarray(networks.probabilities(networks.unit(pixels)))
    model = load_form("tflite_int8", out)
    assert np.abs(model.predict(pixels) - expected).max() < 0.1
    model.close()


def test_a_file_that_exists_is_kept_unless_asked(fake: list[Conversion], tmp_path: Path) -> None:
    out = tmp_path / "a.tflite"
    out.write_text("old")
    with pytest.raises(ConversionError, match="exists already"):
        export_model(tmp_path, "tflite_float32", out)
    assert fake == [] and out.read_text() == "old"
    assert export_model(tmp_path, "tflite_float32", out, overwrite=True).path == out
    assert out.read_text() == "tflite_float32 model.tflite"
    assert names(tmp_path) == ["a.tflite"]


def test_a_file_that_appears_meanwhile_is_kept(
    fake: list[Conversion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert, out = running.convert, tmp_path / "a.tflite"

    def convert_slowly(job: Conversion, timeout_seconds: float = 300) -> Outcome:
        out.write_text("theirs")
        return convert(job, timeout_seconds)

    monkeypatch.setattr(running, "convert", convert_slowly)
    with pytest.raises(ConversionError, match="exists already"):
        export_model(tmp_path, "tflite_float32", out)
    assert out.read_text() == "theirs"
    assert names(tmp_path) == ["a.tflite"]


def test_a_failure_leaves_nothing(fake: list[Conversion], tmp_path: Path) -> None:
    outcome = export_model(tmp_path / "m", "tflite_float32", tmp_path / "new" / "a.tflite", options={"fail": True})
    assert dataclasses.asdict(outcome)["reason"] == "no good"
    assert names(tmp_path / "new") == []


def test_openvino_comes_with_its_weights(fake: list[Conversion], tmp_path: Path) -> None:
    export_model(tmp_path / "m", "openvino_float32", tmp_path / "a.xml")
    assert names(tmp_path) == ["a.bin", "a.xml"]
    with pytest.raises(ConversionError, match=r"a.xml exists"):
        export_model(tmp_path / "m", "openvino_float32", tmp_path / "a.xml")
    (tmp_path / "b.bin").write_text("other")
    with pytest.raises(ConversionError, match=r"b.bin exists"):
        export_model(tmp_path / "m", "openvino_float32", tmp_path / "b.xml")


def test_a_form_that_is_a_directory(fake: list[Conversion], tmp_path: Path) -> None:
    out = tmp_path / "engine"
    export_model(tmp_path / "m", "tftrt_fp16", out)
    assert names(out) == ["saved_model.pb"]
    with pytest.raises(ConversionError, match="exists already"):
        export_model(tmp_path / "m", "tftrt_fp16", out)
    export_model(tmp_path / "m", "tftrt_fp16", out, overwrite=True)
    assert names(tmp_path) == ["engine"]


@pytest.mark.parametrize(
    ("form", "out", "message"),
    [
        ("tflite_int8", "a.onnx", r"does not end in .tflite"),
        ("onnx_int8", "a", r"does not end in .onnx"),
        ("saved_model", "a", "expected another form"),
        ("tflite_int9", "a.tflite", "there is no form"),
        ("tflite_int8", "folder.tflite", "is a directory"),
    ],
)
def test_targets_that_make_no_sense(fake: list[Conversion], tmp_path: Path, form: str, out: str, message: str) -> None:
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(ServingError, match=message):
        export_model(tmp_path, form, tmp_path / out)
    assert fake == []


def test_the_sample_is_drawn_with_the_seed(fake: list[Conversion], tmp_path: Path, monkeypatch: Any) -> None:
    from serving.measure import images as image_files

    found: list[np.ndarray] = []
    convert = running.convert

    def look(job: Conversion, timeout_seconds: float = 300) -> Outcome:
        assert job.representative is not None
        found.append(np.concatenate([pixels for pixels, _ in image_files.load(job.representative).read()]))
        return convert(job, timeout_seconds)

    monkeypatch.setattr(running, "convert", look)
    for number, seed in enumerate((5, 5, 6)):
        export_model(tmp_path, "tflite_int8", tmp_path / f"{number}.tflite", networks.images(40), seed=seed, count=8)
    assert all(pixels.shape == (8, 8, 8, 3) for pixels in found)
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])
