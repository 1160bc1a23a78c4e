from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.convert import child
from serving.errors import ConversionError

MODULE = """
import os, sys, time
from serving.convert import child
from serving.errors import ConversionError
def respond(question):
    mood = question["mood"]
    if mood == "refuse":
        raise ConversionError("no, because.")
    if mood == "abort":
        print("F0000 check failed: nothing works", file=sys.stderr, flush=True)
        os.abort()
    if mood == "hang":
        time.sleep(600)
    if mood == "leave":
        os._exit(4)
    return {"got": question, "said": os.environ["SAID"]}
sys.exit(child.answer(sys.argv[1:], respond))
"""


@pytest.fixture()
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "slipway_moody_child.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "slipway_moody_child"


def test_question_environment_and_answer_cross_the_border(module: str) -> None:
    found = child.ask(module, {"mood": "good", "number": 1.5}, {"SAID": "hello"}, 60)
    assert found == {"got": {"mood": "good", "number": 1.5}, "said": "hello"}


@pytest.mark.parametrize(
    ("mood", "seconds", "reason"),
    [
        ("refuse", 60, "^no, because.$"),
        ("abort", 60, "was ended by SIGABRT; its last words: .*nothing works"),
        ("hang", 0.5, "took longer than 0.5 seconds"),
        ("leave", 60, "exit code 4 and no answer"),
    ],
)
def test_whatever_the_child_does_is_a_reason(module: str, mood: str, seconds: float, reason: str) -> None:
    with pytest.raises(ConversionError, match=reason):
        child.ask(module, {"mood": mood}, {"SAID": "hello"}, seconds)


def test_a_module_that_does_not_exist_is_a_reason() -> None:
    with pytest.raises(ConversionError, match=r"exit code 1 and no answer.*No module named"):
        child.ask("serving.convert.no_such_module", {}, {}, 60)


def test_a_bug_of_the_child_is_no_refusal(tmp_path: Path) -> None:
    (tmp_path / "question.json").write_text(json.dumps({}))

    def respond(question: dict) -> dict:
        return {"missing": question["missing"]}

    with pytest.raises(KeyError):
        child.answer([str(tmp_path / "question.json"), str(tmp_path / "answer.json")], respond)
    assert not (tmp_path / "answer.json").exists()
