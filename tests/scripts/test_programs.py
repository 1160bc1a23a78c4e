"""Tests of `scripts/programs.py` with an apt-get of our own that keeps its arguments."""

from __future__ import annotations

import os
from pathlib import Path

import programs
import pytest


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the PATH, and of files that are no programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(programs, "FILES", {f"{folder}/libexample.so.?": "example"})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return folder


def program(folder: Path, name: str, script: str = "exit 0") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_nothing_missing(path: Path) -> None:
    for name in programs.PROGRAMS:
        program(path, name)
    (path / "libexample.so.1").touch()
    program(path, "apt-get", "exit 1")
    assert programs.main([]) == 0


def test_check_only_looks(path: Path) -> None:
    program(path, "apt-get", f"touch {path}/called")
    assert programs.main(["--check"]) == 1
    assert not (path / "called").exists()


def test_installs_only_what_is_missing(path: Path) -> None:
    program(path, "chromium")
    made = "; ".join(
        f": > {path}/{name}; /bin/chmod +x {path}/{name}" for name in (*programs.PROGRAMS, "libexample.so.1")
    )
    program(path, "apt-get", f'echo "$@" >> {path}/asked; {made}')
    assert programs.main([]) == 0
    update, install = (path / "asked").read_text().splitlines()
    assert update.startswith("update")
    assert {"wrk", "example"} <= set(install.split()) and "chromium" not in install.split()


def test_a_file_alone_may_be_missing(path: Path) -> None:
    for name in programs.PROGRAMS:
        program(path, name)
    assert programs.missing() == {f"{path}/libexample.so.?": "example"}


def test_says_why_it_failed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(path, "apt-get", "echo E: no network; exit 100")
    assert programs.main([]) == 2
    assert "E: no network" in capsys.readouterr().err


def test_installed_but_still_not_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(path, "apt-get")
    assert programs.main([]) == 2
    assert "still missing" in capsys.readouterr().err


def test_tells_what_to_type_where_it_may_not(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(path, "apt-get", f"touch {path}/called")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert programs.main([]) == 2
    assert "apt-get install" in capsys.readouterr().err
    assert not (path / "called").exists()
