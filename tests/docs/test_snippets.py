"""Commands and snippets in the README and the documentation: each is one that exists and that parses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

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
    # Its completion would be installed for whoever runs the tests.
    return [match[1] for match in found if match and not match[1].startswith("--")]


CASES = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in commands(page)]


def find(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words name, and the words behind its name."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command, rest


def parse(words: list[str]) -> None:
    """Let the command line take the words apart, without doing anything."""
    command, rest = find(words)
    assert command.name not in (None, "slipway"), f"there is no command {words[0]}"
    assert not hasattr(command, "commands") or command.invoke_without_command, f"{words}: which command of the group?"
    command.make_context(command.name, rest)


def test_there_are_commands_to_check():
    assert len(CASES) > 20


@pytest.mark.parametrize(("page", "line"), CASES, ids=lambda value: str(value)[:60])
def test_a_command_exists_with_these_options(page: str, line: str):
    parse(shlex.split(line.split(" #")[0].split(" |")[0].split(";")[0], comments=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_snippets_of_python_compile(page: Path):
    for snippet in blocks(page, {"python"}):
        compile(snippet, str(page), "exec")


INLINE = sorted({
    " ".join(span.split()) for page in PAGES
    for span in re.findall(r"`(slipway [^`]+)`", FENCE.sub("", page.read_text(encoding="utf-8")))
})  # fmt: skip


@pytest.mark.parametrize("span", INLINE)
def test_a_command_within_a_sentence_exists_with_these_options(span: str):
    command, rest = find(span.replace("|", " | ").split()[1:])
    assert command.name != "slipway" or rest[0].startswith(("-", "COMMAND")), f"there is no command {rest[0]}"
    if command.name == "serve":
        return  # its flags are those of the model server
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0].strip("[]") for word in rest if word.lstrip("[").startswith("-")}
    assert given <= {*known, "--help"}, f"{span}: {given - known}"


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


@pytest.mark.parametrize(
    "page", [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING")], ids=lambda page: page.stem
)
def test_links_to_files_lead_somewhere(page: Path):
    """MkDocs checks those between the pages of the site."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_readme_shows_the_report_and_says_what_is_in_the_picture():
    (alt,) = re.findall(r"!\[([^]]*)\]\(docs/images/report\.png\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(alt.split()) > 8
