"""Commands and snippets in the README and the documentation: each is one that exists and that parses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from ruamel.yaml import YAML

from pipeline.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = {"sh", "bash", "shell", "console"}


def blocks(page: Path, kinds: set[str]) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind in kinds]


def commands(page: Path) -> list[str]:
    """Return the lines of a page that call `slipway`."""
    text = page.read_text(encoding="utf-8")
    fenced = "\n".join(blocks(page, SHELLS))
    indented = "\n".join(re.findall(r"^    (.*)$", FENCE.sub("", text), re.MULTILINE))
    lines = f"{fenced}\n{indented}".replace("\\\n", " ").splitlines()
    found = (re.match(r"\s*(?:\$ )?(?:\w+=\S+ )*(?:\.venv/bin/)?slipway (.*)", line) for line in lines)
    return [match[1] for match in found if match]


CASES = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in commands(page)]


def parse(words: list[str]) -> None:
    """Let the command line take the words apart, without doing anything."""
    command: Any = typer.main.get_command(app)
    path = "slipway"
    while isinstance(command, click.Group):
        name = words.pop(0)
        inner = command.commands.get(name)
        assert inner is not None, f"there is no command {path} {name}"
        command, path = inner, f"{path} {name}"
    command.make_context(path, words)


def test_there_are_commands_to_check():
    assert len(CASES) > 20


@pytest.mark.parametrize(("page", "line"), CASES, ids=lambda value: str(value)[:60])
def test_a_command_exists_with_these_options(page: str, line: str):
    parse(shlex.split(line.split(" #")[0].split(" |")[0].split(";")[0], comments=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_snippets_of_python_compile(page: Path):
    for snippet in blocks(page, {"python"}):
        compile(snippet, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_snippets_of_yaml_hold_keys_of_the_config(page: Path):
    from pipeline.config.config import Config

    for snippet in blocks(page, {"yaml"}):
        tree = YAML(typ="safe").load(snippet)
        if not set(tree) <= set(Config.model_fields):
            continue  # of another program, such as compose
        for section, values in tree.items():
            kind = Config.model_fields[section].annotation
            if isinstance(values, dict) and hasattr(kind, "model_fields"):
                assert set(values) <= set(kind.model_fields), f"{section}: {set(values) - set(kind.model_fields)}"


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    named = {
        name
        for page in pages
        for name in re.findall(r"(?:^ {4}|`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named and named <= targets, named - targets


@pytest.mark.slow
def test_the_model_of_the_how_to_is_built(tmp_path: Path):
    from trainer import models
    from trainer.settings import ModelSettings

    (snippet,) = blocks(ROOT / "docs" / "howto" / "own-model.md", {"python"})
    (tmp_path / "tiny.py").write_text(snippet, encoding="utf-8")
    model = models.build(ModelSettings(name="tiny", module=str(tmp_path / "tiny.py")), (16, 16, 3), 4)
    assert model.output_shape == (None, 4)
