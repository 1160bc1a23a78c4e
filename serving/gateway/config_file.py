"""A YAML file -> the gateway's settings, or one error that names everything wrong with it.

Called by the command lines of `serving.gateway` and `serving.jobs`.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from serving.gateway.errors import GatewayError
from serving.gateway.settings import GatewaySettings

_LARGEST = 262_144
_PATHS = (
    ("data_dir",),
    ("upstream", "labels_file"),
    ("access", "keys_file"),
    ("access", "pepper_file"),
    ("access", "jwt", "jwks_file"),
    ("traffic", "state_dir"),
    ("jobs", "webhook_secret_file"),
)


def load(path: Path | None) -> GatewaySettings:
    """Read settings.

    Args:
        path: the YAML file; relative paths in it are taken from its folder. None gives the defaults.

    Returns:
        The settings.

    Raises:
        GatewayError: the file cannot be read, is no YAML, or holds unknown keys or wrong values; all are listed with
            their lines, and an unknown key with the nearest valid one.
    """
    if path is None:
        return GatewaySettings()
    tree = _parse(path)
    try:
        settings = GatewaySettings.model_validate(_anchored(_plain(tree), path.absolute().parent))
    except ValidationError as error:
        lines = [f"{path}:{_line(tree, problem['loc'])}: {_sentence(problem)}" for problem in error.errors()]
        raise GatewayError("\n".join(lines)) from None
    return settings


def _parse(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise GatewayError(f"{path}: cannot be read: {error.strerror}; name an existing YAML file") from None
    except UnicodeDecodeError:
        raise GatewayError(f"{path}: is no UTF-8 text; expected a YAML file") from None
    if len(raw) > _LARGEST:
        raise GatewayError(f"{path}: is larger than {_LARGEST} bytes; expected settings of a few dozen lines")
    try:
        tree = YAML(typ="rt").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise GatewayError(f"{path}: is no YAML: {' '.join(str(error).split())[:300]}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise GatewayError(f"{path}: holds a {type(tree).__name__}; expected sections such as `listen:`")
    return tree


def _plain(value: Any) -> Any:
    """Return plain containers; the reader's own remember lines and comments."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _anchored(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths that the file names absolute; values of a wrong type are left to the validation."""
    for *sections, key in _PATHS:
        node: Any = tree
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        if isinstance(node, dict) and isinstance(node.get(key), str):
            node[key] = str(folder / Path(node[key]).expanduser())
    return tree


def _line(tree: Any, location: tuple[int | str, ...]) -> int:
    line = 1
    node = tree
    for part in location:
        positions = getattr(node, "lc", None)
        try:
            place = positions.item(part) if isinstance(part, int) else positions.key(part)  # type: ignore[union-attr]
            line, node = place[0] + 1, node[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line


def _sentence(problem: Any) -> str:
    location = problem["loc"]
    where = ".".join(str(part) for part in location) or "the file"
    if problem["type"] == "extra_forbidden":
        names = list(_names(location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names)}"
        return f"unknown key {where!r}; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    received = "" if problem["type"] in ("missing", "value_error") else f" (received {problem['input']!r})"
    return f"{where}: {message}{received}"


def _names(location: tuple[int | str, ...]) -> Iterator[str]:
    """Yield the keys that are valid in a section."""
    model: type[BaseModel] = GatewaySettings
    for part in location:
        field = model.model_fields.get(str(part))
        inner = next(_models(field.annotation), None) if field else None
        if inner is None:
            return
        model = inner
    yield from model.model_fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _models(argument)
