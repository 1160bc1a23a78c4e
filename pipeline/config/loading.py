"""A YAML file and `--set` overrides -> the typed config, or one error that names everything wrong with them.

Called by the command line and by whoever starts a pipeline from Python.
"""

from __future__ import annotations

import difflib
import os
import pathlib
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pipeline.config import overrides as overriding
from pipeline.config import yaml_tree
from pipeline.config.config import Config
from pipeline.config.fields import section_type, type_at, without_none
from pipeline.config.messages import printable, sentences
from pipeline.config.origins import Origin, Positions, origin_of
from pipeline.config.yaml_tree import Path
from pipeline.errors import ConfigError

LARGEST_FILE = 262_144
"""Bytes a config may have; the largest sensible one has a hundredth of it."""

_PATHS: tuple[tuple[str, str], ...] = (
    ("data", "source"),
    ("data", "path"),
    ("data", "schema_file"),
    ("model", "module"),
    ("metadata", "tls_cert"),
    ("metadata", "tls_key"),
    ("retrain", "log"),
)


@dataclass(frozen=True)
class LoadedConfig:
    """A config and how it came about.

    Attributes:
        config: the typed config; its paths are absolute.
        path: the file it was read from, as given.
        text: the text of that file.
        positions: the origin of every value that is no default.
    """

    config: Config
    path: pathlib.Path
    text: str
    positions: Positions


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a config.

    Paths in it (the data's folder, the schema, the module of models) are relative to the file's folder, those
    in overrides to the current one, as a shell completes them.

    Args:
        path: the YAML file.
        overrides: `section.key=value` texts, applied in order; values are YAML.

    Returns:
        The config with the file's text and the origin of each value.

    Raises:
        ConfigError: if the file cannot be read or anything in it is wrong. All problems are listed, in the
            order of the lines, overrides last; whether the values of a section fit together is checked once
            each of them is right.
    """
    file = pathlib.Path(path)
    text = _read(file)
    root, positions, problems = _tree(file, text)
    for override in overrides:
        try:
            overriding.apply(root, positions, override)
        except ConfigError as error:
            problems += [_Located(0, problem) for problem in error.problems]
    config, invalid = _validate(file, root, positions)
    problems += invalid
    if config is None or problems:
        raise _error(problems)
    return LoadedConfig(config, file, text, positions)


@dataclass(frozen=True)
class _Located:
    """A whole sentence and the line by which it is sorted; 0 for what stands in no line."""

    line: int
    text: str


def _error(problems: list[_Located]) -> ConfigError:
    ordered = sorted(problems, key=lambda problem: (problem.line == 0, problem.line))
    return ConfigError(*dict.fromkeys(printable(problem.text) for problem in ordered))


def _read(file: pathlib.Path) -> str:
    try:
        with open(file, "rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(printable(f"{file}: no such file{_near(file)}")) from None
    except IsADirectoryError:
        raise ConfigError(
            printable(
                f"{file} is a folder; expected a YAML file (`slipway init {file}` writes one for a folder of images)"
            )
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(printable(f"{file}: cannot be read: {reason}")) from None
    if len(raw) > LARGEST_FILE:
        raise ConfigError(
            printable(f"{file}: is larger than {LARGEST_FILE // 1024} KiB; expected a config of a few hundred lines")
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            printable(
                f"{file}:{line}: byte {raw[error.start]:#04x} is no UTF-8 text; expected a YAML file saved as UTF-8"
            )
        ) from None
    if "\0" in text:
        raise ConfigError(printable(f"{file}: holds zero bytes, so it is no text; expected a YAML file saved as UTF-8"))
    return text


def _near(file: pathlib.Path) -> str:
    folder = file.parent
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith((".yaml", ".yml")))
    except OSError:
        return f", and no folder {folder}"
    stems = {name.rpartition(".")[0]: name for name in names}
    near = difflib.get_close_matches(file.stem, stems, n=1)
    if near:
        return f"; did you mean {folder / stems[near[0]]}?"
    return f"; YAML files in {folder}: {', '.join(names[:10])}" if names else f"; there are no YAML files in {folder}"


def _tree(file: pathlib.Path, text: str) -> tuple[dict[str, Any], dict[Path, Origin], list[_Located]]:
    tree = yaml_tree.parse(text)
    problems = [
        _Located(
            problem.line,
            f"{file}:{problem.line}: {problem.text}" if problem.line else f"{file}: {problem.text}",
        )
        for problem in tree.problems
    ]
    if tree.broken:
        raise _error(problems)
    if tree.empty or tree.value is None:
        raise ConfigError(
            printable(f"{file}: is empty; expected at least name:, data: and transform: (see the files in configs/)")
        )
    if not isinstance(tree.value, dict):
        kind = "a list" if isinstance(tree.value, list) else "a single value"
        raise ConfigError(printable(f"{file}:1: is {kind}; expected sections such as 'name: …' and 'data: …'"))
    _fill_empty_sections(tree.value, ())
    return tree.value, {path: Origin(line=line) for path, line in tree.lines.items()}, problems


def _fill_empty_sections(section: dict[str, Any], path: Path) -> None:
    """Read a section whose lines are all commented out as one without settings."""
    for key, value in section.items():
        here = (*path, key)
        declared = type_at(here)
        if section_type(declared) is None and typing.get_origin(declared) is not dict:
            continue
        if value is None and without_none(declared) is declared:  # elsewhere null says that there is no such section
            section[key] = {}
        elif isinstance(value, dict):
            _fill_empty_sections(value, here)


def _validate(file: pathlib.Path, root: dict[str, Any], positions: Positions) -> tuple[Config | None, list[_Located]]:
    doubts = [(("data", "source"), doubt) for doubt in _resolve_paths(file, root, positions)]
    config = None
    try:
        config = Config.model_validate(root)
        found: list[tuple[Path, str]] = []
    except ValidationError as error:
        found = sentences(error)
    return config, [_locate(file, path, text, positions) for path, text in [*doubts, *found]]


def _locate(file: pathlib.Path, path: Path, text: str, positions: Positions) -> _Located:
    origin = origin_of(path, positions)
    if origin is None:
        return _Located(1, f"{file}: {text}")
    if origin.override is not None:
        return _Located(0, f"--set {origin.override}: {text}")
    return _Located(origin.line or 0, f"{file}:{origin.line}: {text}")


def _resolve_paths(file: pathlib.Path, root: dict[str, Any], positions: Positions) -> list[str]:
    """Make the paths in a tree absolute; return a sentence about a source that looks misspelled."""
    from transform.sources import source_names

    built_in = source_names()
    doubts = []
    for section, key in _PATHS:
        values = root.get(section)
        if not isinstance(values, dict):
            continue
        value = values.get(key)
        if not isinstance(value, str) or not value or "\0" in value:
            continue
        is_source = (section, key) == ("data", "source")
        if is_source and value in built_in:
            continue
        origin = positions.get((section, key))
        folder = pathlib.Path() if origin is not None and origin.override is not None else file.parent
        values[key] = os.path.abspath(folder / os.path.expanduser(value))
        near = difflib.get_close_matches(value.lower().replace("-", "_"), built_in, n=1)
        if is_source and near and os.sep not in value and not os.path.exists(values[key]):
            doubts.append(
                f"data.source: received {value!r}; expected a folder ({values[key]} does not exist) "
                f"or one of {', '.join(built_in)}; did you mean {near[0]!r}?"
            )
    return doubts
