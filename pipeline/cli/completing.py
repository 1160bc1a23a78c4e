"""What the shell offers when Tab is pressed: config files, settings, runs, versions, stages.

The options of the commands name these functions. Every press of the key starts a process, so nothing here imports
pydantic, let alone TensorFlow: settings come from the committed schema, runs from the names of their records.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import typer

SCHEMA = Path(__file__).resolve().parents[1] / "config" / "schema.json"
"""The JSON schema of the YAML, as `slipway config schema` prints it."""

Offers = list[tuple[str, str]]

_TOP_LEVEL_DATA = re.compile(rb"^data:", re.MULTILINE)
_PLAIN = re.compile(r"[\w.,:/\[\]-]*")
_LARGEST = 262_144


def configs(incomplete: str) -> list[str]:
    """Return the configs in the folder that is being typed and in the folders below it."""
    typed, _, _ = incomplete.rpartition("/")
    folder = Path(typed or ("/" if incomplete.startswith("/") else "."))
    found = [path for pattern in ("*.y*ml", "[!.]*/*.y*ml") for path in sorted(folder.glob(pattern))]
    return [name for name in map(str, found) if name.startswith(incomplete) and _is_config(Path(name))]


def _is_config(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return _TOP_LEVEL_DATA.search(file.read(_LARGEST)) is not None
    except OSError:
        return False


def settings(incomplete: str) -> Offers:
    """Return `KEY=VALUE` for the keys of the config that begin like this: each choice, else the default."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return [offer for offer in _offers(schema, schema, "") if offer[0].startswith(incomplete)]


def _offers(schema: Mapping[str, Any], section: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, field in section.get("properties", {}).items():
        kind = _resolved(schema, field)
        help_ = field.get("description", "")
        if "properties" in kind:
            yield from _offers(schema, kind, f"{path}{name}.")
            continue
        keys = kind.get("propertyNames", {}).get("enum")
        if keys:
            inner = _resolved(schema, kind["additionalProperties"])
            for key in keys:
                yield from _offers(schema, inner, f"{path}{name}.{key}.")
            continue
        for value in _values(kind, field.get("default")):
            yield f"{path}{name}={value}", help_


def _resolved(schema: Mapping[str, Any], field: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a field refers to; of a choice between something and null, the former."""
    for option in field.get("anyOf", ()):
        if option.get("type") != "null":
            return _resolved(schema, option)
    reference = field.get("$ref")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else field


def _values(kind: Mapping[str, Any], default: Any) -> list[str]:
    """Return values to offer: the choices, else the default if a shell takes it as it is."""
    if "enum" in kind:
        return [str(choice) for choice in kind["enum"]]
    if "examples" in kind:
        return [str(name) for name in kind["examples"]]
    if kind.get("type") == "boolean":
        return ["true", "false"]
    text = "" if default is None else json.dumps(default, separators=(",", ":")).replace('"', "")
    return [text if _PLAIN.fullmatch(text) else ""]


def workdirs(incomplete: str) -> list[str]:
    """Return the work directories below `runs/`."""
    return [name for path in sorted(Path("runs").glob("*/runs")) if (name := str(path.parent)).startswith(incomplete)]


def runs(context: typer.Context, incomplete: str) -> Offers:
    """Return the ids of runs, the newest first, with the pipeline to which each belongs."""
    files = [path for folder in _chosen(context) for path in folder.glob("runs/*.json")]
    newest = sorted(files, key=lambda path: path.stem, reverse=True)
    return [(path.stem, path.parents[1].name) for path in newest if path.stem.startswith(incomplete)]


def versions(context: typer.Context, incomplete: str) -> Offers:
    """Return the numbers of the published versions, the newest first."""
    kind = context.params.get("of")
    folder = {"edge": "edge", "forms": "forms"}.get(getattr(kind, "value", str(kind)), "served")
    numbers = {path.name: path.parents[1].name for place in _chosen(context) for path in place.glob(f"{folder}/[0-9]*")}
    return [(number, numbers[number]) for number in sorted(numbers, key=int, reverse=True)
            if number.startswith(incomplete)]  # fmt: skip


def _chosen(context: typer.Context) -> list[Path]:
    """Return the work directory that the command line names, else all below `runs/`."""
    named = context.params.get("workdir")
    return [Path(named)] if named else [path.parent for path in Path("runs").glob("*/runs")]


def one_of(choices: Callable[[], Any]) -> Callable[[str], list[str]]:
    """Return a function that offers those of some names that begin like what was typed."""

    def offered(incomplete: str) -> list[str]:
        return [name for name in choices() if name.lower().startswith(incomplete.lower())]

    return offered


def stages() -> tuple[str, ...]:
    """Return the names of the stages."""
    from pipeline.cli.running import STAGES

    return STAGES


def targets() -> tuple[str, ...]:
    """Return what `compile` and `submit` write for."""
    from pipeline.cli.compiling import TARGETS

    return TARGETS


def forms() -> tuple[str, ...]:
    """Return the names of the forms."""
    from serving.convert.forms import FORMS

    return tuple(FORMS)


def answer_bash(answer: Callable[[], object], environment: MutableMapping[str, str]) -> None:
    """Answer bash, for which `=` ends a word: put `KEY=VALUE` together again, and take `KEY=` off what is offered.

    Args:
        answer: prints the offers, one a line, for the words in the environment.
        environment: `COMP_WORDS` (one word a line) and `COMP_CWORD`; changed.
    """
    words = environment.get("COMP_WORDS", "").split("\n")
    current = int(environment.get("COMP_CWORD", "0"))
    joined, position = _rejoined(words, current)
    environment.update(COMP_WORDS="\n".join(joined), COMP_CWORD=str(position))
    typed = joined[position] if position < len(joined) else ""
    known = typed.rpartition("=")[0] + "=" if "=" in typed else ""
    with contextlib.redirect_stdout(io.StringIO()) as offers, contextlib.suppress(SystemExit):
        answer()
    sys.stdout.writelines(line.removeprefix(known) for line in offers.getvalue().splitlines(keepends=True))


def _rejoined(words: list[str], current: int) -> tuple[list[str], int]:
    joined: list[str] = []
    position = current
    glue = False
    for index, word in enumerate(words):
        if joined and (word == "=" or glue):
            joined[-1] += word
            position -= index <= current
        else:
            joined.append(word)
        glue = word == "="
    return joined, position


def asked_by_bash(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process was started by bash for its completion."""
    return environment.get("_SLIPWAY_COMPLETE") == "complete_bash"
