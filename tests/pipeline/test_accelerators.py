from __future__ import annotations

from typing import get_args

import pytest

from pipeline import accelerators
from pipeline.accelerators import probe_accelerators
from serving.convert import child
from serving.convert.tftrt_probe import TrtStatus
from serving.errors import ConversionError


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch):
    """Replaces TensorFlow's answer and that of the TF-TRT probe."""

    def give(tensorflow: dict | str, tftrt: tuple[str, str] = ("no_gpu", "there is none")) -> None:
        def ask(module: str, *rest: object) -> dict:
            assert module == "pipeline.accelerators"
            if isinstance(tensorflow, str):
                raise ConversionError(tensorflow)
            return tensorflow

        monkeypatch.setattr(child, "ask", ask)
        monkeypatch.setattr(accelerators, "tftrt_status", lambda seconds: tftrt)

    return give


def test_both_answers_are_gathered(answers) -> None:
    answers({"tensorflow": "2.16.2", "gpus": ["Tesla T4"]}, ("ok", ""))
    found = probe_accelerators()
    assert (found.tensorflow, found.gpus, found.tftrt) == ("2.16.2", ("Tesla T4",), "ok")
    assert (found.reason, found.failure) == ("", "")


def test_a_tensorflow_that_does_not_start_is_told_with_its_last_words(answers) -> None:
    answers("pipeline.accelerators was ended by SIGABRT; its last words: ImportError: libfoo.so")
    found = probe_accelerators()
    assert (found.tensorflow, found.gpus, found.tftrt) == ("", (), "probe_failed")
    assert found.failure == found.reason and "SIGABRT" in found.failure and "libfoo.so" in found.failure


@pytest.mark.parametrize(
    ("code", "words"), [("import os; os.abort()", "SIGABRT"), ("raise ImportError('libfoo.so')", "libfoo.so")]
)
def test_the_process_that_starts_tensorflow_may_die(code: str, words: str, tmp_path, monkeypatch) -> None:
    (tmp_path / "tensorflow.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe_accelerators()
    assert found.tensorflow == "" and words in found.failure


@pytest.mark.slow
def test_the_real_machine_stands_on_one_rung_of_the_ladder() -> None:
    found = probe_accelerators()
    assert found.failure == ""
    assert found.tensorflow.startswith("2.")
    assert found.tftrt in get_args(TrtStatus) and found.tftrt != "probe_failed"
    assert bool(found.gpus) or found.tftrt in ("not_built", "no_gpu")
