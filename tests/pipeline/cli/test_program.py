"""How people are told to call the program again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.cli.program import program


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the program in the environment of a project, as somebody in the project's folder has called it."""
    file = tmp_path / ".venv" / "bin" / "slipway"
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n", encoding="utf-8")
    file.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(file), "init"])
    return file


def test_a_program_that_the_shell_finds_goes_by_its_name(called: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(called.parent))
    assert program() == "slipway"


def test_elsewhere_its_path_is_given(called: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == ".venv/bin/slipway"
    monkeypatch.chdir("/")
    assert program() == str(called).lstrip("/")


def test_a_module_that_is_run_by_python_is_no_name_to_type(called: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["pipeline/__main__.py"])
    assert program() == "slipway"
