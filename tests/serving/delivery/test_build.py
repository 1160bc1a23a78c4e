"""What a package for servers holds, that it runs with the plain runtime, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.delivery.build import build_delivery
from serving.delivery.card import FormCard
from serving.delivery.folder import check_folder
from serving.edge.bundle import SampleImage
from serving.errors import BundleError, ServingError
from tests.serving.delivery.conftest import LABELS, contents, pixels, server_form
from tests.serving.forms.test_onnxruntime import expected


def card_of(folder: Path) -> FormCard:
    return FormCard.from_json((folder / "card.json").read_text(encoding="utf-8"))


def test_a_package_has_a_folder_per_target_with_all_that_is_needed(package: Path) -> None:
    files = sorted(path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file())
    assert [name for name in files if "/" not in name] == ["README.md", "forms.json", "labels.txt"]
    assert [name for name in files if name.startswith("server_cpu/")] == [
        "server_cpu/card.json", "server_cpu/classify.py", "server_cpu/labels.txt", "server_cpu/model.bin",
        "server_cpu/model.py", "server_cpu/model.xml",
    ]  # fmt: skip
    assert "server_gpu/serving/1/saved_model.pb" in files
    assert [(entry.target, entry.variant, entry.runtime) for entry in check_folder(package).forms] == [
        ("server_cpu", "openvino_float32", "openvino"), ("server_gpu", "tftrt_fp16", "tftrt"),
    ]  # fmt: skip
    readme = (package / "README.md").read_text(encoding="utf-8")
    assert "float32 [any, 4, 4, 3]" in readme and "server_gpu/serving" in readme and "animals of one color" in readme


def test_the_card_says_what_goes_in_what_comes_out_and_what_was_measured(package: Path) -> None:
    card = card_of(package / "server_cpu")
    assert (card.input.name, card.input.dtype, card.input.shape) == ("image", "float32", (-1, 4, 4, 3))
    assert (card.output.name, card.output.dtype, card.output.shape) == ("probabilities", "float32", (-1, 5))
    assert card.quantization.scheme == "none"
    assert card.results["accuracy"] == 0.875
    assert (card.runtime.package, card.runtime.version) == ("openvino", "9.9 of openvino")
    assert card.labels == LABELS
    assert {file.path for file in card.files} == {"model.xml", "model.bin"}
    engines = card_of(package / "server_gpu")
    assert engines.load == "serving/1"
    assert "GPU" in engines.runtime.requires and engines.quantization.scheme == "float16"


@pytest.mark.parametrize(
    "form", ["onnx_float32", "openvino_float32", pytest.param("tftrt_fp16", marks=pytest.mark.slow)]
)
def test_the_example_gives_the_expected_answers_with_the_plain_runtime(
    form: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    chosen = server_form(form, sources[form])
    folder = build_delivery(tmp_path / "package", contents(chosen))
    listed = json.loads((folder / "samples/expected.json").read_text(encoding="utf-8"))["samples"]
    ours = {"PYTHONPATH", "TF_USE_LEGACY_KERAS", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, "-W", "ignore", str(folder / chosen.target / "classify.py")]
    images = [str(folder / "samples" / sample["image"]) for sample in listed]
    done = subprocess.run(
        [*command, *images], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    for seed, (line, sample) in enumerate(zip(lines, listed, strict=True)):
        answer = sample["answers"][chosen.target]
        assert answer == pytest.approx(expected(pixels(seed)[None] / 255.0)[0], abs=1e-4)
        best = answer.index(max(answer))
        assert line[1] == LABELS[best]
        assert float(line[2]) == pytest.approx(answer[best], abs=2e-4)
    check_folder(folder)
    assert not list(folder.rglob("__pycache__"))
    usage = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert usage.returncode == 1 and "usage" in usage.stderr


def test_a_calibrated_form_names_its_images_and_their_seed(sources: dict[str, Path], tmp_path: Path) -> None:
    form = server_form("onnx_int8", sources["onnx_float32"], calibration_images=200, calibration_seed=7)
    card = card_of(build_delivery(tmp_path / "package", contents(form)) / "server_cpu")
    assert card.quantization.scheme == "int8"
    assert (card.quantization.calibration_images, card.quantization.calibration_seed) == (200, 7)


def test_what_was_not_measured_or_does_not_fit_is_refused_and_leaves_nothing(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    form = server_form("onnx_float32", sources["onnx_float32"])
    small = SampleImage(pixels(0)[:2], "ape")
    for delivery, words in (
        (contents(dataclasses.replace(form, measured_sha256="0" * 64)), "measure it again before it ships"),
        (contents(form, labels=("ape", "bee")), "tells 5 classes apart; there are 2"),
        (contents(form, samples=(small,)), r"takes images of \[4, 4, 3\]; of the samples one has \[2, 4, 3\]"),
        (contents(form, samples=()), "there are none"),
        (contents(), "expected one form or more"),
        (contents(form, form), "each for a target of its own"),
    ):
        with pytest.raises(BundleError, match=words):
            build_delivery(tmp_path / "package", delivery)
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(sources["onnx_float32"].read_bytes()[:50])
    with pytest.raises(ServingError, match="truncated"):
        build_delivery(tmp_path / "package", contents(server_form("onnx_float32", damaged)))
    assert sorted(tmp_path.iterdir()) == [damaged]
    (tmp_path / "package").mkdir()
    with pytest.raises(BundleError, match="exists already"):
        build_delivery(tmp_path / "package", contents(form))
