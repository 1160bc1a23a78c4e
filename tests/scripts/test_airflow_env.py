from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import airflow_env
import pytest

ROOT = Path(airflow_env.__file__).resolve().parents[1]


@pytest.fixture
def ready(fake, monkeypatch: pytest.MonkeyPatch):
    """A machine with a Python 3.10 and a uv, and a clone with both locks."""
    fake.uv()
    fake.python(fake.path / "python3.10")
    for name in airflow_env.INPUTS:
        airflow_env.requirements(name, fake.clone).write_text(f"apache-airflow=={name}\n", encoding="utf-8")
    monkeypatch.setattr(os, "environ", fake.env)
    return fake


def steps(fake) -> list[str]:
    return [" ".join(call.split()[:2]).replace(" --no-project", "") for call in fake.uv_calls()]


def test_the_first_time_both_are_made_and_the_second_time_none(ready, capsys: pytest.CaptureFixture) -> None:
    assert airflow_env.main([], ready.clone) == 0
    assert steps(ready) == ["venv", "pip sync"] * 2
    assert all("--require-hashes" in call for call in ready.uv_calls()[1::2])
    assert "made .airflow/3" in capsys.readouterr().err
    assert airflow_env.main([], ready.clone) == 0
    assert len(ready.uv_calls()) == 4
    assert capsys.readouterr().err == ""


def test_one_may_be_made_alone_and_check_only_looks(ready) -> None:
    assert airflow_env.main(["--check"], ready.clone) == 1
    assert airflow_env.main(["3"], ready.clone) == 0
    assert airflow_env.main(["3", "--check"], ready.clone) == 0
    assert airflow_env.main(["2", "--check"], ready.clone) == 1
    assert len(ready.uv_calls()) == 2


def test_a_changed_lock_or_place_makes_it_anew(ready) -> None:
    airflow_env.main(["3"], ready.clone)
    old = airflow_env.environment("3", ready.clone) / "of-the-old-lock"
    old.touch()
    airflow_env.requirements("3", ready.clone).write_text("apache-airflow==3.9\n", encoding="utf-8")
    assert airflow_env.main(["3"], ready.clone) == 0
    assert not old.exists()
    moved = ready.clone.rename(ready.clone.with_name("moved"))
    assert airflow_env.main(["3", "--check"], moved) == 1


def test_what_was_interrupted_is_made_anew(ready, capsys: pytest.CaptureFixture) -> None:
    ready.env.update(FAKE_UV_FAILS="pip sync", FAKE_UV_SAYS="dns error")
    assert airflow_env.main(["2"], ready.clone) == 2
    assert "index cannot be reached" in capsys.readouterr().err
    assert not airflow_env.complete("2", ready.clone)
    half_done = airflow_env.environment("2", ready.clone) / "half-done"
    half_done.touch()
    ready.env.update(FAKE_UV_FAILS="")
    assert airflow_env.main(["2"], ready.clone) == 0
    assert not half_done.exists()


def test_two_at_once_make_it_once(ready) -> None:
    program = "import pathlib, sys, airflow_env; sys.exit(airflow_env.main(['3'], pathlib.Path(sys.argv[1])))"
    env = {**ready.env, "PYTHONPATH": str(ROOT / "scripts")}
    both = [subprocess.Popen([sys.executable, "-c", program, str(ready.clone)], env=env) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert steps(ready) == ["venv", "pip sync"]


def test_locking_resolves_into_the_locks(ready) -> None:
    assert airflow_env.main(["--lock", "--upgrade"], ready.clone) == 0
    assert steps(ready) == ["pip compile"] * 2
    assert all("--generate-hashes" in call and "--upgrade" in call for call in ready.uv_calls())


def test_an_unknown_word_is_refused(ready, capsys: pytest.CaptureFixture) -> None:
    assert airflow_env.main(["4"], ready.clone) == 2
    assert "received 4; expected 3 or 2, --check or --lock" in capsys.readouterr().err


def test_the_locks_hold_hashes_and_no_index() -> None:
    for name, wanted in airflow_env.INPUTS.items():
        text = airflow_env.requirements(name).read_text(encoding="utf-8")
        assert all(f"\n{package.split('>')[0]}==" in text for package in wanted)
        assert text.count("--hash=sha256:") >= text.count("==") > 100
        assert "://" not in text and "--index" not in text
