"""Building a bundle: what is in it, and what cannot become one."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.edge import answers
from serving.edge.answers import Answers
from serving.edge.bundle import BundleFile, SampleImage, build_bundle
from serving.edge.card import ModelCard
from serving.edge.metadata import read_metadata
from serving.edge.samples import Expected, read_png
from serving.errors import BundleError
from tests.serving.edge import tiny

Files = dict[str, Path]


def test_what_is_in_it(bundle: Path) -> None:
    present = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert present == {
        "README.md", "SHA256SUMS", "labels.txt", "model_card.json", "model_float16.tflite", "model_int8.tflite",
        "samples/000.png", "samples/001.png", "samples/002.png", "samples/expected.json",
        "examples/cpp/classify.cc", "examples/kotlin/Classifier.kt", "examples/python/classify.py",
        "examples/swift/Classifier.swift",
    }  # fmt: skip
    assert (bundle / "labels.txt").read_text() == "cat\ndog\nowl\n"
    assert bundle.stat().st_mode & 0o777 == 0o755


def test_the_card_says_what_the_files_are(bundle: Path, tflite_files: Files) -> None:
    card = ModelCard.from_json((bundle / "model_card.json").read_text())
    assert (card.name, card.version, card.labels, card.license) == ("pets", "7", tiny.LABELS, "Apache-2.0")
    assert (card.image.height, card.image.width, card.image.channels) == tiny.SIZE
    by_variant = {file.variant: file for file in card.files}
    int8 = by_variant["tflite_int8"]
    assert (int8.input.dtype, int8.input.zero_point, int8.output.scale) == ("uint8", 0, 1 / 256)
    assert (int8.targets, int8.signature, int8.tolerance) == (("cpu", "nnapi"), "predict", 0.04)
    assert by_variant["tflite_float16"].input.dtype == "float32"
    for kind, file in (("int8", int8), ("float16", by_variant["tflite_float16"])):
        content = (bundle / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert file.measured_sha256 == hashlib.sha256(tflite_files[kind].read_bytes()).hexdigest()
        description = read_metadata(content)
        assert description is not None and description.labels == tiny.LABELS


def test_the_expected_answers_are_those_of_the_models(bundle: Path, tflite_files: Files) -> None:
    import tensorflow as tf

    expected = Expected.from_json((bundle / "samples/expected.json").read_text())
    assert [sample.label for sample in expected.samples] == list(tiny.LABELS)
    run = tf.lite.Interpreter(model_path=str(tflite_files["int8"])).get_signature_runner("predict")
    for seed, sample in enumerate(expected.samples):
        stored = read_png((bundle / "samples" / sample.image).read_bytes(), 3)
        assert np.array_equal(stored, tiny.pixels(seed))
        promised = run(image=stored[None])["probabilities"][0] / 256
        assert sample.answers["model_int8.tflite"] == pytest.approx(promised, abs=1e-6)
        assert sample.answers["model_float16.tflite"] == pytest.approx(promised, abs=0.04)


def test_the_system_tool_accepts_the_sums(bundle: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 13


def test_the_readme_leads_to_the_answer(bundle: Path) -> None:
    text = (bundle / "README.md").read_text()
    for words in ("8 x 8 pixels, RGB", "takes the pixels 0..255 as they are", "(pixel - 0) / 255", "SHA256SUMS",
                  "Sorting holiday pictures.", "No pictures of more than one animal.", "cat, dog, owl"):  # fmt: skip
        assert words in text
    assert "Training on the device" not in text


def test_no_second_bundle_in_the_same_place(bundle_copy: Path, tflite_files: Files) -> None:
    with pytest.raises(BundleError, match="exists already; give a folder that is new or empty"):
        build_bundle(bundle_copy, tiny.contents(tflite_files))


def _float_only(files: Files) -> tuple[BundleFile, ...]:
    return (BundleFile(files["float16"], "model_float16.tflite", "tflite_float16", ("gpu",)),)


def _other_names(files: Files, tmp_path: Path) -> tuple[BundleFile, ...]:
    path = tmp_path / "other.tflite"
    path.write_bytes(files["int8"].read_bytes().replace(b"probabilities", b"confidentials"))
    return (BundleFile(path, "model_int8.tflite", "tflite_int8", ("cpu",)),)


def _truncated(files: Files, tmp_path: Path) -> tuple[BundleFile, ...]:
    path = tmp_path / "half.tflite"
    path.write_bytes(files["int8"].read_bytes()[:1200])
    return (BundleFile(path, "model_int8.tflite", "tflite_int8", ("cpu",)),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda files, _: {"labels": ("cat", "dog")}, r"output has the shape \(-1, 3\), but there are 2 labels"),
        (lambda files, _: {"labels": ("cat", "dog", "o\nwl")}, "cannot stand on a line of its own"),
        (lambda files, _: {"files": ()}, "there is no model file"),
        (lambda files, _: {"results": ({"pareto": [1]},)}, r"the result 'pareto' is \[1\]"),
        (lambda files, _: {"samples": ()}, "expected one or more"),
        (lambda files, _: {"samples": (SampleImage(np.zeros((9, 8, 3), np.uint8)),)}, r"expected uint8 \(8, 8, 3\)"),
        (lambda files, _: {"samples": (SampleImage(tiny.pixels(0), "cow"),)}, "shows 'cow', which is no label"),
        (lambda files, _: {"files": _float_only(files) * 2}, "each once"),
        (lambda files, _: {"files": (replace(_float_only(files)[0], name="../x.tflite"),)}, "is unsafe"),
        (lambda files, _: {"files": (replace(_float_only(files)[0], source=Path("gone")),)}, "gone cannot be read"),
        (lambda files, tmp: {"files": _truncated(files, tmp)}, r"half\.tflite \(tflite_int8\): .*truncated or damaged"),
        (lambda files, tmp: {"files": _other_names(files, tmp)}, r"expected 'predict\(image\) -> probabilities' alone"),
        (lambda files, _: {"personalization": files["int8"]}, r"\['infer', 'restore', 'save', 'train'\] are missing"),
    ],
)
def test_what_cannot_become_a_bundle(
    tflite_files: Files, tmp_path: Path, changes: Callable[[Files, Path], dict[str, Any]], words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def uniform(_folder: Path, card: ModelCard, images: list[str], *_rest: object) -> dict[str, Answers]:
        return {file.path: Answers([[1 / 3] * 3] * len(images)) for file in card.files}

    monkeypatch.setattr("serving.edge.bundle.collect", uniform)
    out = tmp_path / "out" / "bundle"
    with pytest.raises(BundleError, match=words):
        build_bundle(out, tiny.contents(tflite_files, **changes(tflite_files, tmp_path)))
    assert os.listdir(out.parent) == [], "nothing is left behind"


def test_without_an_interpreter_there_are_no_expected_answers(
    tflite_files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "RUNTIMES", {"nothing": "no_such_runtime"})
    with pytest.raises(BundleError, match=r"no interpreter of \.tflite files is installed"):
        build_bundle(tmp_path / "bundle", tiny.contents(tflite_files))
