from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from environment.commands import Runner, ask, inherited_environment


def said_during(tmp_path: Path, line: str, enough: Callable[[list[str]], bool]) -> list[str]:
    """What a runner says during a step that prints the line and goes on until enough was said."""
    said: list[str] = []
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def say(text: str) -> None:
        said.append(text)
        if enough(said) and pipe.exists():
            with pipe.open("w") as end:
                end.write("end")
            pipe.unlink()  # a second writer would wait for a reader for ever

    runner = Runner(tmp_path / "log", os.environ, say=say, heartbeat=0.05)
    step = f"print({line!r}, flush=True); open({str(pipe)!r}).read()"
    assert runner.run([sys.executable, "-c", step]).code == 0
    return said


def test_output_goes_to_the_log_and_comes_back(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "tools/log", os.environ, say=lambda line: None)
    runner.run([sys.executable, "-c", "print('before')"])
    outcome = runner.run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"])
    assert outcome.code == 3
    assert sorted(outcome.output.split()) == ["err", "out"]
    assert "before" in runner.log.read_text(encoding="utf-8")


def test_a_program_that_cannot_be_started_is_a_failed_one(tmp_path: Path) -> None:
    runner = Runner(tmp_path / "log", os.environ, say=lambda line: None)
    assert runner.run(["/nonexistent/program"]).code == 127
    assert ask(["/nonexistent/program"], os.environ).code == 127


def test_a_question_that_is_not_answered_in_time_is_failed() -> None:
    assert ask([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, seconds=0.2).code == 127


def test_a_long_step_shows_its_last_line_now_and_then(tmp_path: Path) -> None:
    said = said_during(tmp_path, "Prepared 98 packages", enough=lambda said: len(said) == 3)
    assert "still at work" in said[-1]
    assert len([line for line in said if "Prepared 98 packages" in line]) <= 1


def test_the_silence_while_the_bytecode_is_compiled_is_explained(tmp_path: Path) -> None:
    said = said_during(tmp_path, "Installed 296 packages in 43.02s", enough=lambda said: "bytecode" in said[-1])
    assert said[-1].endswith("compiling the packages' bytecode")
    assert "Installed 296 packages" in said[-2]


def test_a_step_inherits_the_lock_and_the_extra_variables(tmp_path: Path) -> None:
    read, write = os.pipe()
    runner = Runner(tmp_path / "log", os.environ, say=lambda line: None, keep_open=(write,))
    outcome = runner.run(
        [sys.executable, "-c", f"import os; os.write({write}, os.environ['WORD'].encode())"], WORD="hi"
    )
    assert (outcome.code, os.read(read, 9)) == (0, b"hi")


def test_variables_that_point_at_another_environment_are_not_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "UV_PYTHON"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    env = inherited_environment()
    assert not {"VIRTUAL_ENV", "PYTHONPATH", "UV_PYTHON"} & set(env)
    assert env["PIP_INDEX_URL"] == "kept"
