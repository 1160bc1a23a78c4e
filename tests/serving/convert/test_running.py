from __future__ import annotations

import importlib.util
import os
import re
import select
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.convert import running
from serving.convert.forms import FORMS
from serving.convert.job import Conversion, Outcome


@pytest.fixture()
def act(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a conversion with a worker that does what it is told."""
    monkeypatch.setattr(running, "_WORKER", "tests.serving.convert.fake_worker")

    def convert(what: str, timeout: float = 300, **options: Any) -> Outcome:
        job = Conversion(
            "tflite_float32", tmp_path / "model", tmp_path / "work" / "out", options={"act": what, **options}
        )
        return running.convert(job, timeout)

    return convert


def left_over(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "work").rglob("*"))


def test_a_good_conversion_is_put_in_place(act: Any, tmp_path: Path) -> None:
    outcome = act("finish")
    assert (outcome.status, outcome.reason, outcome.details) == ("ok", "", {"seed": 3})
    assert outcome.path == tmp_path / "work" / "out" / "model.tflite"
    assert outcome.path.read_bytes() == b"model"
    assert left_over(tmp_path) == ["model.tflite", "out"]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("abort", r"SIGABRT \(it aborted\); its last words: .*getInferLibVersion symbol not found"),
        ("segfault", r"SIGSEGV \(it crashed\); its last words: lowering the graph"),
        ("exit", "exit code 7 and no result; its last words: I quit"),
        ("raise", "exit code 1 and no result; its last words: RuntimeError: the operation Foo is unknown"),
        ("nonsense", "exit code 0 and no result"),
        ("nothing", "left no model.tflite"),
    ],
)
def test_whatever_goes_wrong_becomes_a_reason(act: Any, tmp_path: Path, what: str, reason: str) -> None:
    outcome = act(what)
    assert outcome.status == "failed"
    assert outcome.path is None
    assert re.search(reason, outcome.reason), outcome.reason
    assert left_over(tmp_path) == []


def test_a_worker_that_hangs_is_ended(act: Any, tmp_path: Path) -> None:
    outcome = act("hang", timeout=0.2)
    assert outcome.status == "failed"
    assert "took longer than 0.2 seconds and was ended" in outcome.reason
    assert outcome.seconds >= 0.2
    assert left_over(tmp_path) == []


def test_processes_that_the_worker_started_end_with_it(act: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Non-blocking, so that it opens before there is a writer; it is readable at its end when the last writer died.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        outcome = act("orphan", pipe=str(pipe))
        ready, _, _ = select.select([reader], [], [], 60)
        assert ready and os.read(reader, 1) == b""
    finally:
        os.close(reader)
    assert outcome.status == "ok"


def test_an_interrupt_ends_the_worker_and_leaves_nothing(
    act: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if timeout is not None:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait()

    monkeypatch.setattr(running.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        act("hang")
    assert [process.returncode for process in started] == [-9]
    assert left_over(tmp_path) == []


def test_the_worker_gets_a_clean_environment(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "TF_USE_LEGACY_KERAS=1 CUDA_VISIBLE_DEVICES=-1" in act("environment").reason


def test_a_missing_package_skips_the_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else object())
    outcome = running.convert(Conversion("onnx_float32", tmp_path, tmp_path / "out"))
    assert outcome.status == "skipped"
    assert outcome.reason == "onnxruntime not installed; pip install 'tfx-slipway[convert]'"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("form", "reason"), [("tflite_int4", "Did you mean 'tflite_int"), ("saved_model", "nothing to convert")]
)
def test_forms_that_cannot_be_made(tmp_path: Path, form: str, reason: str) -> None:
    outcome = running.convert(Conversion(form, tmp_path, tmp_path / "out"))
    assert outcome.status == "failed"
    assert reason in outcome.reason


def test_an_out_dir_that_cannot_be_made_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = running.convert(Conversion("tflite_float32", tmp_path, tmp_path / "file" / "out"))
    assert outcome.status == "failed"
    assert "file/out cannot be written: " in outcome.reason


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("2026-01-01 10:00:00.1: I tensorflow/core/x.cc:1] hello\nWARNING: All log messages\n", ""),
        (
            "F0000 00:00:1.2 9 engine.cc:49] Check failed: x\n*** Begin stack trace ***\n  @ 0x7f foo\n"
            'Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File "a.py", line 1 in f\n',
            "F0000 00:00:1.2 9 engine.cc:49] Check failed: x",
        ),
        ('Traceback (most recent call last):\n  File "a.py", line 1\n    f()\nKeyError: 3\n', "KeyError: 3"),
        ("terminate called after throwing\n  what():  std::bad_alloc\n", "what():  std::bad_alloc"),
        ("fully_quantize: 0, inference_type: 6\nx" + "y" * 500, "x" + "y" * 299),
    ],
)
def test_last_words(log: str, words: str) -> None:
    assert running.last_words(log) == words


def test_every_form_has_a_worker() -> None:
    from serving.convert import worker

    for name, form in FORMS.items():
        if form.runtime != "saved_model":
            module = worker._MODULES.get(name) or worker._MODULES[name.partition("_")[0]]
            assert importlib.util.find_spec(module) is not None, module
