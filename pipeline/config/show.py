"""The effective config as commented YAML, as JSON, and the JSON schema of the format.

`slipway config show` prints them; `yaml_value` also writes the file of `slipway init`.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
from typing import Any

from pydantic import BaseModel

from pipeline.config.config import Config
from pipeline.config.fields import plain
from pipeline.config.origins import Origin, Positions
from pipeline.config.yaml_tree import Path, scalar

SCHEMA_FILE = pathlib.Path(__file__).resolve().with_name("schema.json")
"""The schema as a file, for editors and for the shell's completion; a test holds it to the config."""

_PLAIN = re.compile(r"(\.?/)?[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS_OF_YAML_1_1 = frozenset({"y", "n", "yes", "no", "on", "off"})
_COMMENT_COLUMN = 40


def render_yaml(config: Config, positions: Positions | None = None) -> str:
    """Return the effective config with every default, one line of help and the origin of each value.

    Args:
        config: what to show.
        positions: the origins of its values; a path that is missing counts as a default.

    Returns:
        YAML that loads back to an equal config.
    """
    lines = [f"# The effective config of {_in_comment(config.name)}: each value, its meaning and where it was set."]
    _section(config, (), positions or {}, lines)
    return "\n".join(lines) + "\n"


def to_json(config: Config) -> str:
    """Return the effective config as JSON, with keys in the order of the sections."""
    return json.dumps(plain(config), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a config file, for editors that complete and check YAML by one."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    for section, key, names in _known_names():
        field = schema["$defs"][section]["properties"][key]
        field.get("items", field)["examples"] = names
    return schema


def _known_names() -> list[tuple[str, str, list[str]]]:
    """Return the names that stand for something in settings which take others, too."""
    from serving.convert.forms import FORMS
    from trainer import models
    from transform.sources import source_names

    sources = [name for name in source_names() if name != "folder"]  # a folder is named by its path
    return [
        ("DataSettings", "source", sources),
        ("ModelSettings", "name", list(models.names())),
        ("CompressSettings", "variants", list(FORMS)),
    ]


def schema_text() -> str:
    """Return the JSON schema as the text of `schema.json` beside this module."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def schema_hint(file: os.PathLike[str] | str) -> str:
    """Return the comment by which editors find the schema of a config.

    Args:
        file: the YAML file; below the folder that holds this project, the schema is named relative to it.
    """
    project = SCHEMA_FILE.parents[2]
    folder = pathlib.Path(os.path.abspath(file)).parent
    inside = folder.is_relative_to(project) and "site-packages" not in project.parts
    where = os.path.relpath(SCHEMA_FILE, folder) if inside else SCHEMA_FILE.as_posix()
    return f"# yaml-language-server: $schema={where}"


def yaml_value(value: Any) -> str:
    """Return a plain value on one line of YAML that readers of YAML 1.1 and 1.2 understand alike.

    Args:
        value: None, a boolean, number or string, or a list or dict of them.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(yaml_value(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{yaml_value(key)}: {yaml_value(item)}' for key, item in value.items())}}}"
    return str(value)


def _float(value: float) -> str:
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    mantissa, exponent_mark, exponent = repr(value).partition("e")
    if exponent_mark and "." not in mantissa:
        mantissa += ".0"  # YAML 1.1 reads 1e-05 as text
    return mantissa + exponent_mark + exponent


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and isinstance(scalar(value), str) and value.lower() not in _WORDS_OF_YAML_1_1:
        return value
    return '"' + "".join(_quoted(char) for char in value) + '"'


def _quoted(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _section(section: BaseModel, path: Path, positions: Positions, lines: list[str]) -> None:
    indent = "  " * len(path)
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        here = (*path, name)
        if not path:
            lines.append("")
        lines.append(f"{indent}# {_in_comment(field.description or '')}")
        _entry(name, value, here, positions, lines)


def _entry(name: str, value: Any, path: Path, positions: Positions, lines: list[str]) -> None:
    indent = "  " * (len(path) - 1)
    if isinstance(value, BaseModel):
        lines.append(f"{indent}{name}:")
        _section(value, path, positions, lines)
    elif isinstance(value, dict) and value:
        lines.append(f"{indent}{name}:")
        for key, item in value.items():
            _entry(str(key), item, (*path, str(key)), positions, lines)
    else:
        text = f"{indent}{name}: {yaml_value(plain(value))}"
        lines.append(f"{text:<{_COMMENT_COLUMN}}  # {_origin(path, positions)}")


def _origin(path: Path, positions: Positions) -> str:
    within = [origin for known, origin in positions.items() if known[: len(path)] == path]
    return _in_comment((_strongest(within)).words()) if within else "default"


def _strongest(origins: list[Origin]) -> Origin:
    """Return the override among the origins of a list and its items, if there is one."""
    return next((origin for origin in origins if origin.override is not None), origins[0])


def _in_comment(text: str) -> str:
    return "".join(char if char.isprintable() else _quoted(char) for char in text)
