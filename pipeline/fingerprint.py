"""Which code and which part of a config a stage depends on, as hashes; and the git commit for the manifest.

Entry modules come in, hashes go out. The cache asks before every stage, so nothing is imported here and a
hash takes milliseconds. What counts is the bytes of the source files in the import closure, not their times
nor the place of the checkout. An import by a computed name is not seen; name such a module as an entry.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

FIRST_PARTY = ("pipeline", "serving", "trainer", "transform")
"""Packages whose sources count; everything else is fixed by the lock."""

ROOT = Path(__file__).resolve().parent.parent

_IMPORT = re.compile(r"(?:^|[:;])[ \t]*(?=import[ \t\\]|from[ \t\\.])", re.MULTILINE)
_LONGEST_IMPORT = 4000  # characters
_GIT_SECONDS = 10
COMMIT_VARIABLE = "SLIPWAY_COMMIT"
"""Environment variable that names the commit where there is no checkout to ask."""


def code_fingerprint(entry_modules: Sequence[str], extra_files: Sequence[Path] = (), root: Path = ROOT) -> str:
    """Return a hash of all first-party sources that some modules need.

    Args:
        entry_modules: dotted names, for example `trainer.run`.
        extra_files: files of the user, for example a module that registers models.
        root: the folder that holds the first-party packages.

    Returns:
        64 hexadecimal digits.

    Raises:
        ModuleNotFoundError: if an entry module has no source file.
        FileNotFoundError: if an extra file does not exist.
    """
    return _hash_of(code_hashes(entry_modules, extra_files, root))


def modules_of(package: str, root: Path = ROOT) -> list[str]:
    """Return the dotted names of a package's own modules, sorted; for packages that are imported by computed names."""
    return sorted(f"{package}.{path.stem}" for path in root.joinpath(*package.split(".")).glob("[!_]*.py"))


def code_hashes(entry_modules: Sequence[str], extra_files: Sequence[Path] = (), root: Path = ROOT) -> dict[str, str]:
    """Return the hash of each source file behind `code_fingerprint`, by module name.

    Imports inside functions, relative imports and the `__init__` of every package on the way are followed. A
    user's file appears under its file name, and so do the modules beside it that it imports.

    Args:
        entry_modules: see `code_fingerprint`.
        extra_files: see `code_fingerprint`.
        root: see `code_fingerprint`.

    Returns:
        Module (or file) name to 64 hexadecimal digits, sorted by name.

    Raises:
        ModuleNotFoundError: if an entry module has no source file.
        FileNotFoundError: if an extra file does not exist.
    """
    hashes: dict[str, str] = {}
    waiting = []
    for name in entry_modules:
        if _source(root, name) is None:
            raise ModuleNotFoundError(f"entry module {name!r} has no source file below {root}", name=name)
        waiting.append(name)
    extras: dict[str, list[str]] = {}
    for path in extra_files:
        waiting += _add_user_file(Path(path), extras)
    for name, digests in extras.items():
        hashes[name] = digests[0] if len(digests) == 1 else _hash_of(sorted(digests))
    seen: set[str] = set()
    while waiting:
        for name in _with_parents(waiting.pop()):
            source = None if name in seen else _source(root, name)
            seen.add(name)
            if source is not None:
                content = source.read_bytes()
                hashes[name] = hashlib.sha256(content).hexdigest()
                waiting += _imports(content, name, source.name == "__init__.py")
    return dict(sorted(hashes.items()))


def changed_modules(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return what differs between two results of `code_hashes`, for the reason of a cache miss.

    Args:
        old: the hashes of the run that filled the cache.
        new: the hashes of now.

    Returns:
        Sorted phrases such as `trainer.loop changed`, `trainer.ema is new`, `trainer.old is gone`.
    """
    phrases = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            phrases.append(f"{name} is gone")
        elif name not in old:
            phrases.append(f"{name} is new")
        elif old[name] != new[name]:
            phrases.append(f"{name} changed")
    return phrases


def config_fingerprint(config: BaseModel, keys: Sequence[str]) -> str:
    """Return a hash of the part of a config that a stage reads.

    Args:
        config: any section or the whole config.
        keys: dotted paths below it, for example `["train", "data.split.seed"]`; their order does not matter.

    Returns:
        64 hexadecimal digits.

    Raises:
        AttributeError: if a key leads nowhere.
    """
    parts = {}
    for key in keys:
        value: Any = config
        for name in key.split("."):
            value = value[name] if isinstance(value, Mapping) and name in value else getattr(value, name)
        parts[key] = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return _hash_of(parts)


def git_commit(root: Path = ROOT) -> str:
    """Return the commit that a folder is checked out at.

    Args:
        root: a folder in a checkout.

    Returns:
        40 hexadecimal digits, followed by `-dirty` where tracked files differ from the commit. Outside a checkout,
        before the first commit and where git is missing: what `SLIPWAY_COMMIT` says, as in images that
        `slipway image` describes, or else `unknown`.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root)]
    command += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # A hook's GIT_DIR would speak about another repository; optional locks would disturb a git at work.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    clean |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
        found = done.stdout.strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        found = ""
    return found or os.environ.get(COMMIT_VARIABLE, "").strip() or "unknown"


def _hash_of(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_jsonable)
    return hashlib.sha256(text.encode()).hexdigest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"no stable text for a {type(value).__name__}")


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _source(root: Path, name: str) -> Path | None:
    """Return the source file of a first-party module, or None if there is none by that name."""
    if name.partition(".")[0] not in FIRST_PARTY:
        return None
    return _module_file(root, name)


def _module_file(root: Path, name: str) -> Path | None:
    place = root.joinpath(*name.split("."))
    for candidate in (place / "__init__.py", place.with_name(place.name + ".py")):
        if candidate.is_file():
            return candidate
    return None


def _add_user_file(path: Path, extras: dict[str, list[str]]) -> list[str]:
    """Hash a user's file and the modules beside it that it imports; return the first-party ones it names."""
    needed: list[str] = []
    waiting, seen = [path], set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        content = file.read_bytes()
        extras.setdefault(f"file {file.relative_to(path.parent).as_posix()}", []).append(
            hashlib.sha256(content).hexdigest()
        )
        if file.suffix != ".py":
            continue
        for name in _imports(content, file.stem, is_package=False):
            if name.partition(".")[0] in FIRST_PARTY:
                needed.append(name)
                continue
            beside = (_module_file(path.parent, parent) for parent in _with_parents(name))
            waiting += [found for found in beside if found is not None]
    return needed


_FOR_TYPE_CHECKERS = re.compile(r"^if (?:typing\.)?TYPE_CHECKING:[^\n]*\n(?:(?:[ \t][^\n]*)?\n)*", re.MULTILINE)
"""The block of a source that only type checkers read."""


def _imports(content: bytes, module: str, is_package: bool) -> list[str]:
    """Return the dotted names that a source may import; `from a import b` gives both `a` and `a.b`."""
    package = module if is_package else module.rpartition(".")[0]
    names: dict[str, None] = {}
    for node in _import_statements(content.decode("utf-8", "replace")):
        if isinstance(node, ast.Import):
            names.update(dict.fromkeys(alias.name for alias in node.names))
            continue
        base = node.module or ""
        if node.level:
            parents = package.split(".") if package else []
            kept = parents[: len(parents) - node.level + 1]
            base = ".".join([*kept, *([node.module] if node.module else [])])
        names.update(dict.fromkeys([base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)]))
    return [name for name in names if name]


def _import_statements(source: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports at any depth of a source.

    Parsing whole files would take five times as long as everything else here. An import can only begin a line
    or follow `:` or `;`, so only what begins there is parsed. What looks like an import inside a string is
    taken for one: at worst, one file too many counts. Imports for the type checker alone are passed over, since
    they never run.
    """
    source = _FOR_TYPE_CHECKERS.sub("\n", source)
    for match in _IMPORT.finditer(source):
        lines = source[match.end() : match.end() + _LONGEST_IMPORT].splitlines()
        if "import" not in lines[0] and not lines[0].endswith("\\"):
            continue
        for length in range(1, len(lines) + 1):
            try:
                tree = ast.parse("\n".join(lines[:length]))
            except (SyntaxError, ValueError):
                if "(" in lines[0] or lines[length - 1].endswith("\\"):
                    continue  # the statement goes on in the next line
                break
            yield from (node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))
            break
