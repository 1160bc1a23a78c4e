"""Checking a bundle anywhere: what holds, what does not, and what could not be checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.edge import __main__ as command
from serving.edge import answers
from serving.edge.metadata import Description, attach_metadata
from serving.edge.verify import Finding, verify_bundle
from serving.errors import BundleError
from tests.serving.edge import tiny

ROOT = Path(answers.__file__).parents[2]


def failed(bundle: Path, runtime: str = "none") -> list[str]:
    """What does not hold."""
    return [str(finding) for finding in verify_bundle(bundle, runtime=runtime) if finding.status == "failed"]


def test_a_good_bundle(bundle: Path) -> None:
    findings = verify_bundle(bundle, runtime="tensorflow")
    assert [finding.check for finding in findings if finding.status == "skipped"] == ["manifest"]
    assert not [finding for finding in findings if finding.status == "failed"]
    assert findings[-1] == Finding(
        "passed", "answers", "2 files give the expected answers to 3 samples with tensorflow"
    )


def test_models_that_were_not_run_are_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_bundle(bundle, runtime="none")[-1].message == "the models were not run, as asked."
    monkeypatch.setattr(answers, "RUNTIMES", {"nothing": "no_such_runtime"})
    last = verify_bundle(bundle)[-1]
    assert (last.status, last.check) == ("skipped", "answers")
    assert "no interpreter of .tflite files is installed; `pip install ai-edge-litert`" in last.message
    with pytest.raises(BundleError, match="nothing is not installed"):
        verify_bundle(bundle, runtime="nothing")
    with pytest.raises(BundleError, match="there is no runtime 'onnx'"):
        verify_bundle(bundle, runtime="onnx")


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def _edit_card(bundle: Path, change: Callable[[Any], object]) -> None:
    path = bundle / "model_card.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda b: _flip(b / "model_int8.tflite", 1500), "sums: model_int8.tflite was changed"),
        (lambda b: _flip(b / "samples/001.png", 60), "sums: samples/001.png was changed"),
        (lambda b: (b / "samples/001.png").unlink(), "sums: samples/001.png is missing"),
        (lambda b: (b / "examples/extra.so").write_bytes(b"x"), "sums: examples/extra.so was added"),
        (lambda b: (b / "link").symlink_to("/etc/passwd"), "is a symbolic link"),
        (lambda b: (b / "more").symlink_to(b / "samples"), "is a symbolic link"),
        (lambda b: os.mkfifo(b / "pipe"), "is no regular file"),
        (lambda b: (b / "a\nb").write_bytes(b""), "is unsafe"),
        (lambda b: (b / "SHA256SUMS").unlink(), "sums: SHA256SUMS is missing"),
        (lambda b: (b / "SHA256SUMS").write_text("nonsense\n"), "line 1 of SHA256SUMS"),
        (lambda b: (b / "SHA256SUMS").write_text(f"{'0' * 64}  ../../x\n"), "is unsafe"),
        (lambda b: (b / "SHA256SUMS").write_bytes(b"\xff"), "SHA256SUMS is not UTF-8"),
        (lambda b: (b / "model_card.json").unlink(), "card: model_card.json is missing"),
        (lambda b: (b / "model_card.json").write_text("{"), "card: model_card.json: not valid JSON"),
        (lambda b: _edit_card(b, lambda c: c["files"][0].update(path="../x")), "files[0]: path '../x' is unsafe"),
        (lambda b: (b / "manifest.json").write_text("{}"), "manifest: "),
    ],
)
def test_damage(bundle_copy: Path, damage: Callable[[Path], object], expected: str) -> None:
    damage(bundle_copy)
    assert any(expected in problem for problem in failed(bundle_copy)), failed(bundle_copy)


def _truncate(bundle: Path) -> None:
    content = (bundle / "model_int8.tflite").read_bytes()
    tiny.replace_model(bundle, "model_int8.tflite", content[:1500])


def _other_labels(bundle: Path) -> None:
    original = (bundle.parent / "int8").read_bytes()
    tiny.replace_model(bundle, "model_int8.tflite", attach_metadata(original, Description("m", ("a", "b", "c"))))


def _other_mean(bundle: Path) -> None:
    original = (bundle.parent / "int8").read_bytes()
    described = attach_metadata(original, Description("m", tiny.LABELS, mean=(127.5,), std=(127.5,)))
    tiny.replace_model(bundle, "model_int8.tflite", described)


def _no_metadata(bundle: Path) -> None:
    tiny.replace_model(bundle, "model_int8.tflite", (bundle.parent / "int8").read_bytes())


def _other_network(bundle: Path) -> None:
    tiny.replace_model(bundle, "model_int8.tflite", (bundle / "model_float16.tflite").read_bytes())


def _expected(bundle: Path, change: Callable[[Any], object]) -> None:
    path = bundle / "samples/expected.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_truncate, "model_int8.tflite: "),
        (_other_labels, "the labels in its metadata are not those of model_card.json"),
        (_other_mean, "channels, mean or std in its metadata are not those"),
        (_no_metadata, "it has no TFLite metadata"),
        (_other_network, "the input is "),
        (lambda b: (b / "labels.txt").write_text("dog\ncat\nowl\n"), "labels: labels.txt does not hold the labels"),
        (lambda b: (b / "other.tflite").write_bytes(b"x"), "models: other.tflite is not in model_card.json"),
        (lambda b: (b / "README.md").unlink(), "documents: README.md is missing"),
        (lambda b: (b / "samples/001.png").unlink(), "samples: samples/001.png is missing"),
        (lambda b: (b / "samples/more.png").write_bytes(b"x"), "samples: samples/more.png has no expected answer"),
        (lambda b: _expected(b, lambda e: e["samples"][0]["answers"].popitem()), "has answers of"),
        (lambda b: _expected(b, lambda e: e["samples"][0].update(label="cow")), "which is no label"),
        (lambda b: _expected(b, lambda e: e["samples"][0].update(image="../x.png")), "is no plain name of a PNG file"),
        (lambda b: _edit_card(b, lambda c: c["files"][0].update(signature="serve")), "but no 'serve'"),
        (lambda b: _edit_card(b, lambda c: c["files"][1]["input"].update(scale=0.5)), "but the card says"),
        (lambda b: _edit_card(b, lambda c: c["files"][1]["input"].update(scale=0.5)), "raw pixels cannot go in"),
        (lambda b: _edit_card(b, lambda c: c["files"][0].update(size=1)), "size or SHA-256 is not that"),
        (lambda b: _edit_card(b, lambda c: c["image"].update(height=9)), "does not take images of"),
    ],
)  # fmt: skip
def test_a_bundle_that_was_signed_again_contradicts_itself(
    bundle_copy: Path, tflite_files: dict[str, Path], damage: Callable[[Path], object], expected: str
) -> None:
    (bundle_copy.parent / "int8").write_bytes(tflite_files["int8"].read_bytes())
    damage(bundle_copy)
    tiny.sign(bundle_copy)
    problems = failed(bundle_copy)
    assert any(expected in problem for problem in problems), problems
    assert not any(problem.startswith("sums") for problem in problems)


def test_other_weights_give_other_answers(bundle_copy: Path, tflite_files: dict[str, Path]) -> None:
    import numpy as np

    content = tflite_files["float16"].read_bytes()
    kernel = np.random.default_rng(7).normal(0, 0.5, (3, 3, 3, 4)).astype(np.float32)
    dense = np.random.default_rng(7)
    dense.normal(0, 0.5, (3, 3, 3, 4))
    stored = dense.normal(0, 0.3, (64, 3)).astype(np.float32).T.astype(np.float16).tobytes()
    assert kernel.size and content.count(stored) == 1, "the weights of the last layer"
    changed = content.replace(stored, bytes(len(stored)))
    tiny.replace_model(bundle_copy, "model_float16.tflite", attach_metadata(changed, Description("m", tiny.LABELS)))
    assert failed(bundle_copy) == []
    problems = failed(bundle_copy, "tensorflow")
    assert len(problems) == 3 and all("model_float16.tflite differs by 0." in problem for problem in problems)


@pytest.mark.parametrize(
    ("code", "seconds", "expected"),
    [
        ("import os; os.abort()", 120, "the interpreter died of SIGABRT"),
        ("raise SystemExit('no such library')", 120, "ended with exit code 1: no such library"),
        ("while True: pass", 1, "gave no answer within 1 seconds"),
    ],
)
def test_an_interpreter_that_dies_takes_nobody_along(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, seconds: float, expected: str
) -> None:
    (tmp_path / "tflite_runtime").mkdir()
    (tmp_path / "tflite_runtime/__init__.py").touch()
    (tmp_path / "tflite_runtime/interpreter.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    findings = verify_bundle(bundle, runtime="tflite_runtime", timeout_seconds=seconds)
    problems = [finding.message for finding in findings if finding.status == "failed"]
    assert len(problems) == 2 and expected in problems[0] and expected in problems[1]


def _verify(*words: object, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *options, "-m", "serving.edge", "verify", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_standard_library_is_enough(bundle: Path, bundle_copy: Path) -> None:
    done = _verify(bundle, options=("-S",))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped answers: no interpreter" in done.stdout
    assert "holds what it promises; 2 checks were skipped" in done.stderr
    _flip(bundle_copy / "labels.txt", 0)
    done = _verify(bundle_copy, options=("-S",))
    assert done.returncode == 3
    assert "FAILED  sums: labels.txt was changed" in done.stdout
    assert "does not hold what it promises" in done.stderr


def test_exit_codes(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["verify", str(bundle), "--runtime", "none", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {finding["status"] for finding in findings} == {"passed", "skipped"}
    assert command.main(["verify", str(tmp_path / "gone")]) == 2
    assert "is no folder; expected a mobile bundle" in capsys.readouterr().err
    assert command.main(["verify", str(tmp_path)]) == 2
    assert "neither model_card.json nor SHA256SUMS is in it" in capsys.readouterr().err
    (tmp_path / "12").mkdir()
    assert command.main(["verify", str(tmp_path)]) == 2
    assert f"verify {tmp_path / '12'}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command.main(["verify"])
    assert ended.value.code == 2
