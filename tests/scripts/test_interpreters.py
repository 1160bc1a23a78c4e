from __future__ import annotations

import os
import sys

import pytest
from environment import interpreters
from environment.failures import SetupError
from environment.interpreters import examine, find_installed, find_or_fetch_with_uv

RUNNING = sys.executable


@pytest.fixture(autouse=True)
def only_the_fake_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests run on a Python 3.10 themselves, which must not be the answer."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    real = interpreters._newest_first
    monkeypatch.setattr(
        interpreters,
        "_newest_first",
        lambda folder, pattern: iter(()) if str(folder).startswith(("/opt", "/usr")) else real(folder, pattern),
    )


def test_the_interpreter_of_the_tests_is_usable_and_a_venv_is_followed_to_its_base(fake) -> None:
    found = examine(RUNNING, fake.env)
    assert found.problem == ""
    assert found.path == os.path.realpath(RUNNING)


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"version": "3, 11, 2"}, "is CPython 3.11.2"),
        ({"implementation": "PyPy"}, "is PyPy 3.10.13"),
        ({"missing": '"sqlite3", "bz2"'}, "was built without sqlite3, bz2"),
        ({"headers": "false"}, "has no C headers"),
        ({}, ""),
    ],
)
def test_a_candidate_is_asked_what_it_is(fake, facts: dict, problem: str) -> None:
    found = examine(str(fake.python(fake.home / "python3.10", **facts)), fake.env)
    assert found.problem.startswith(problem) and bool(found.problem) == bool(problem)


def test_a_candidate_that_does_not_start_tells_its_first_line(fake) -> None:
    shim = fake.program(fake.path / "python3.10", "echo 'pyenv: python3.10: command not found'; exit 127")
    assert "pyenv: python3.10: command not found" in examine(str(shim), fake.env).problem


def test_a_shim_on_path_that_fails_does_not_hide_pyenvs_newest_310(fake) -> None:
    fake.program(fake.path / "python3.10", "exit 127")
    for version in ("3.10.9", "3.10.13", "3.11.7"):
        fake.python(fake.home / f".pyenv/versions/{version}/bin/python3.10")
    assert find_installed(fake.env, fake.runner()) == str(fake.home / ".pyenv/versions/3.10.13/bin/python3.10")


def test_the_root_that_pyenv_names_is_searched(fake) -> None:
    elsewhere = fake.home / "elsewhere"
    fake.program(fake.path / "pyenv", f"echo {elsewhere}")
    python = fake.python(elsewhere / "versions/3.10.1/bin/python3.10")
    assert find_installed(fake.env, fake.runner()) == str(python)


def test_none_is_none_and_the_log_tells_what_was_tried(fake) -> None:
    fake.python(fake.path / "python3.10", version="3, 11, 0")
    runner = fake.runner()
    assert find_installed(fake.env, runner) is None
    assert "is CPython 3.11.0" in runner.log.read_text(encoding="utf-8")


def test_a_chosen_interpreter_is_taken_or_refused_but_not_replaced(fake) -> None:
    fake.python(fake.path / "python3.10")
    chosen = fake.python(fake.home / "mine")
    assert find_installed({**fake.env, "SLIPWAY_PYTHON": str(chosen)}, fake.runner()) == str(chosen)
    fake.python(chosen, version="3, 12, 0")
    with pytest.raises(SetupError, match=r"SLIPWAY_PYTHON names .*mine, which is CPython 3\.12\.0"):
        find_installed({**fake.env, "SLIPWAY_PYTHON": str(chosen)}, fake.runner())


def test_uv_is_asked_for_one_before_it_downloads_one(fake) -> None:
    python = fake.python(fake.home / "conda/bin/python3.10")
    uv = fake.program(fake.path / "uv", f'echo "$@" >> {fake.calls}; echo {python}')
    assert find_or_fetch_with_uv(str(uv), fake.env, fake.runner(), fake.clone / "p") == str(python)
    assert [call.split()[:2] for call in fake.uv_calls()] == [["python", "find"]]


def test_a_downloaded_one_is_used(fake) -> None:
    folder = fake.clone / "p"
    there = fake.python(folder / "cpython-3.10.20-linux-x86_64-gnu/bin/python3.10")
    uv = fake.program(fake.path / "uv", 'case "$2" in find) exit 2 ;; esac')
    assert find_or_fetch_with_uv(str(uv), fake.env, fake.runner(), folder) == str(there)


def test_no_python_and_no_download_is_one_sentence(fake) -> None:
    uv = fake.program(fake.path / "uv", 'echo "cause: dns error"; exit 1')
    with pytest.raises(SetupError, match=r"no usable Python 3.10 .* cannot be reached.*pyenv install 3.10"):
        find_or_fetch_with_uv(str(uv), fake.env, fake.runner(), fake.clone / "p")
