from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.convert import worker
from serving.convert.job import Conversion, Outcome
from serving.errors import ConversionError, UnavailableError


def run_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException) -> Outcome:
    def convert(job: Conversion) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(worker, "_converter", lambda name: SimpleNamespace(convert=convert))
    return worker.run(Conversion("tflite_int8", tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ConversionError("no good"), "failed", "no good"),
        (UnavailableError("no GPU"), "skipped", "no GPU"),
        (ModuleNotFoundError("No module named 'tf2onnx'", name="tf2onnx"), "skipped", "tf2onnx not installed; pip"),
        (MemoryError(), "failed", "more memory than this machine has"),
        (RuntimeError("\n{{node a}} first\nsecond"), "failed", "RuntimeError: first"),
        (KeyError(), "failed", "KeyError: no message"),
    ],
)
def test_errors_become_reasons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, status: str, reason: str
) -> None:
    outcome = run_with(monkeypatch, tmp_path, error)
    assert outcome.status == status
    assert outcome.path is None
    assert outcome.reason.startswith(reason) or reason in outcome.reason


def test_an_interrupt_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_with(monkeypatch, tmp_path, KeyboardInterrupt())


def test_the_command_line_writes_the_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # It ties the process to its parent, and this process is that of the tests.
    monkeypatch.setattr(worker, "_live_with_parent", lambda: None)
    monkeypatch.setattr(worker, "_converter", lambda name: SimpleNamespace(convert=lambda job: {"seed": 1}))
    job = Conversion("tflite_int8", tmp_path / "m", tmp_path / "out")
    (tmp_path / "job.json").write_text(job.to_json(), encoding="utf-8")
    assert worker.main([str(tmp_path / "job.json"), str(tmp_path / "outcome.json")]) == 0
    outcome = Outcome.from_json((tmp_path / "outcome.json").read_text(encoding="utf-8"))
    assert (outcome.status, outcome.path, outcome.details) == ("ok", tmp_path / "out" / "model.tflite", {"seed": 1})
