"""Pages of the documentation that are made of the code: every setting, every command, the public functions.

Called by MkDocs while it builds the site (`make docs`); nothing of it is committed, so it can't be out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

API = {
    "Pipeline": (
        "pipeline.config.loading", "pipeline.running", "pipeline.interactive", "pipeline.graph", "pipeline.records",
        "pipeline.report.page", "pipeline.report.comparison", "pipeline.metadata",
    ),
    "Data": ("transform.sources.base", "transform.sources.registry", "transform.ingest", "transform.preprocessing"),
    "Models": (
        "trainer.models.registry", "trainer.training", "trainer.tuning", "trainer.export", "trainer.explain",
        "trainer.compress.compressing",
    ),
    "Serving": (
        "serving.client", "serving.classifier", "serving.saved_model", "serving.publish", "serving.manifest",
        "serving.certify.table", "serving.certify.picks", "serving.edge.verify",
    ),
}  # fmt: skip
"""What people who write programs with the packages call, by room."""


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages (MkDocs' hook)."""
    from mkdocs.structure.files import File

    sys.path.insert(0, str(ROOT))
    made = {
        "reference/configuration.md": configuration(),
        "reference/commands.md": commands(),
        "reference/api.md": api(),
    }
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def configuration() -> str:
    """Return the page about every setting."""
    from pipeline.config.config import Config

    intro = (
        "# Configuration\n\nEvery key of the YAML file, its type, its default and what it means. A key that isn't here "
        "is an error that names the line. `slipway config show FILE` prints the effective values of a file, "
        "`slipway config schema` a JSON schema for editors.\n"
    )
    return intro + "".join(_section("", Config))


def _section(path: str, model: Any) -> Iterator[str]:
    from pipeline.config.fields import section_type

    rows, below = [], []
    for name, field in model.model_fields.items():
        inner = section_type(field.annotation)
        if inner is not None:
            below.append((f"{path}{name}", inner, field.description or ""))
            continue
        rows.append(
            f"| `{path}{name}` | {_kind(field.annotation)} | {_default(field)} | {_cell(field.description or '')} |\n"
        )
    if rows:
        yield "\n| key | type | default | |\n|---|---|---|---|\n"
        yield from rows
    for name, inner, description in below:
        yield f"\n{'#' * min(4, 2 + name.count('.'))} {name}\n\n{description[:1].upper()}{description[1:]}.\n"
        yield from _section(f"{name}.", inner)


def _kind(annotation: Any) -> str:
    """Return a type in the words of the field."""
    import types
    import typing

    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return _cell(", ".join(f"`{part}`" for part in parts))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(part) for part in parts if part is not type(None))
    if origin is tuple:
        kinds = [part for part in parts if part is not Ellipsis]
        return f"list of {_kind(kinds[0])}"
    if origin is dict:
        return f"mapping of {_kind(parts[0])}"
    if origin is typing.Annotated:
        return _kind(parts[0])
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(
        annotation, str(getattr(annotation, "__name__", annotation))
    )


def _default(field: Any) -> str:
    from pydantic_core import PydanticUndefined

    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    return f"`{_cell(list(value) if isinstance(value, tuple) else value)}`"


def commands() -> str:
    """Return the page about every command and option, from the command line itself."""
    import typer

    from pipeline.cli.app import app

    text = ["# Commands\n\n`slipway COMMAND --help` says the same. Exit codes: 0 done, 2 something is wrong with what "
            "was given, 3 a gate refused the data or the model, 1 anything else.\n"]  # fmt: skip
    group = typer.main.get_command(app)
    text += _commands("slipway", group)
    return "".join(text)


def _commands(path: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner:
        for name, found in inner.items():
            yield from _commands(f"{path} {name}", found)
        return
    yield f"\n## {path}\n\n{_cell((command.help or '').strip())}\n"
    rows = []
    for parameter in command.params:
        if "--help" in parameter.opts:
            continue
        words = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            words = f"`{(parameter.metavar or parameter.name or '').upper()}`"
        rows.append(f"| {words} | {_cell(getattr(parameter, 'help', None) or '')} |\n")
    if rows:
        yield "\n| | |\n|---|---|\n"
        yield from rows
    yield _lesson(path)


def _lesson(path: str) -> str:
    """Return the examples at the end of a command's help."""
    from pipeline.cli.lessons import LESSONS

    lesson = LESSONS.get(path.partition(" ")[2])
    if lesson is None:
        return ""
    lines = [f"{line}    # {what}" for line, what in lesson.examples]
    return "\n```sh\n" + "\n".join(lines) + f"\n```\n\nNext: {lesson.then}\n"


def api() -> str:
    """Return the page about public functions."""
    text = ["# API\n\nFunctions and classes that programs and notebooks call, from their docstrings.\n"]
    for room, modules in API.items():
        text.append(f"\n## {room}\n")
        text += [f"\n::: {module}\n    options:\n      heading_level: 3\n" for module in modules]
    return "".join(text)


def _cell(value: Any) -> str:
    """Return text that may stand in a cell of a table."""
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("[", "\\[")
