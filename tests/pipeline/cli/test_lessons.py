"""`--help` that teaches: every command has examples that parse, and the main help names groups and exit codes."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli import lessons
from pipeline.cli.app import app, run

ROOT = Path(__file__).resolve().parents[3]


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from commands(inner, f"{path}{name} ")
        else:
            yield f"{path}{name}", inner


EVERY = dict(commands(typer.main.get_command(app)))


def test_every_command_has_a_lesson_and_every_lesson_a_command():
    assert set(lessons.LESSONS) == set(EVERY)


@pytest.mark.parametrize("name", sorted(lessons.LESSONS))
def test_the_examples_of_a_command_parse(name: str):
    for line, what in lessons.LESSONS[name].examples:
        words = shlex.split(line)
        assert words[: len(name.split()) + 1] == ["slipway", *name.split()]
        EVERY[name].make_context("slipway", words[len(name.split()) + 1 :])
        assert what
    assert all(len(line) < 78 for line in lessons.text(name).splitlines())


@pytest.mark.parametrize("name", ["run", "runs gc", "optimize", "edge verify"])
def test_help_ends_with_examples_and_what_comes_next(name: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert run([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    for line, _ in lessons.LESSONS[name].examples:
        assert line in said
    assert "Next: " in said


def test_the_main_help_has_panels_in_the_order_of_use_and_exit_codes(capsys):
    assert run(["--help"]) == 0
    said = capsys.readouterr().out
    panels = re.findall(r"╭─ ([^─]+) ─", said)
    assert panels == [
        "Options", "From data to a model", "Forms for phones and servers", "Versions and serving",
        "Looking back, training again", "Other orchestrators", "This machine",
    ]  # fmt: skip
    assert "Exit codes: 0 done" in said


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["runn"], "Did you mean 'run'"),
        (["run", "x.yaml", "--form", "Trainer"], "--from"),
        (["canary", "promot"], "'promote'"),
        (["run"], "Example: slipway run images.yaml"),
        (["versions", "--of", "edgy"], "Example: slipway versions"),
        (["config", "shw"], "'show'"),
    ],
)
def test_a_mistyped_command_gets_a_suggestion_or_an_example(words: list[str], hint: str, capsys):
    assert run(words) == 2
    assert hint in capsys.readouterr().err


def on_a_terminal(words: list[str], **environment: str) -> str:
    """Return what a command writes to a terminal."""
    mine, its = pty.openpty()
    base = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "pipeline", *words], stdout=its, stderr=its, stdin=subprocess.DEVNULL,
        env={**base, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(its)
    read = bytearray()
    while True:
        try:
            chunk = os.read(mine, 65536)
        except OSError:  # how Linux says that the other side has closed it
            break
        if not chunk:
            break
        read += chunk
    process.wait()
    os.close(mine)
    return read.decode()


COLOR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38;)[0-9;]*m")


def test_color_is_for_terminals_and_no_color_is_honored(capsys):
    assert COLOR.search(on_a_terminal(["--help"]))
    assert not COLOR.search(on_a_terminal(["--help"], NO_COLOR="1"))
    assert run(["--help"]) == 0
    assert "\x1b" not in capsys.readouterr().out
