"""What a rehearsal keeps in place of a service's metadata: artifacts, queries over them, results of earlier tasks.

Comes in: artifacts as specifications write them (`name`, `uri`, `type`, `metadata`). Goes out: those that a resolver
asks for, and those that a task with the same inputs left before. Called by the rehearsal; kept as one JSON file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.runners.vertex import spec as specs

_FILE = "artifacts.json"
_TERM = re.compile(r'\s*([\w.]+)\s*=\s*("[^"]*"|[^\s"]+)\s*(?:AND\b|$)')
_OF_AN_INPUT = re.compile(r"\{\{\$\.inputs\.artifacts\['([^']+)'\]\.metadata\['([^']+)'\]\}\}")

Artifact = dict[str, Any]
Result = dict[str, dict[str, Any]]
"""What a task left: `artifacts`, a list by key, and `values` of parameters by key."""


class ArtifactStore:
    """Artifacts of all rehearsals in a folder."""

    def __init__(self, folder: Path):
        """Read what earlier rehearsals left.

        Args:
            folder: of the rehearsals.

        Raises:
            ConfigError: the file is damaged.
        """
        self._path = folder / _FILE
        self._artifacts: list[Artifact] = []
        self._results: dict[str, Result] = {}
        if self._path.exists():
            try:
                stored = json.loads(self._path.read_text(encoding="utf-8"))
                self._artifacts, self._results = stored["artifacts"], stored["results"]
            except (ValueError, KeyError) as error:
                raise ConfigError(f"{self._path} is damaged ({error}); remove the folder and rehearse again") from error

    def new_name(self) -> str:
        """Return a name for an artifact, in the form of the service's resource names."""
        return f"projects/1/locations/here/metadataStores/default/artifacts/{len(self._artifacts) + 1}"

    def add(self, artifact: Artifact) -> None:
        """Keep an artifact that a task has made."""
        self._artifacts.append(artifact)

    def newest(self, query: str, inputs: Mapping[str, list[Artifact]]) -> list[Artifact]:
        """Return the newest artifact that a resolver's query asks for, or nothing.

        Args:
            query: terms joined by AND; they may ask for the metadata of an input.
            inputs: the resolver's input artifacts by key.

        Raises:
            ConfigError: a term is of a kind that TFX doesn't write.
        """

        def of_input(match: re.Match[str]) -> str:
            found = inputs.get(match[1]) or [{}]
            return str(found[0].get("metadata", {}).get(match[2], ""))

        terms = _terms(_OF_AN_INPUT.sub(of_input, query))
        fits = (a for a in reversed(self._artifacts) if all(_fits(a, field, value) for field, value in terms))
        return [artifact for artifact in (next(fits, None),) if artifact is not None]

    def same(self, artifact: Artifact) -> Artifact | None:
        """Return the artifact that was imported before with the same place, type and metadata, if there is one."""
        keys = ("uri", "type", "metadata")
        return next((known for known in self._artifacts if all(known[key] == artifact[key] for key in keys)), None)

    def result(self, key: str) -> Result | None:
        """Return what an earlier task with this key left."""
        return self._results.get(key)

    def keep_result(self, key: str, result: Result) -> None:
        """Keep what a task left for later ones with the same key."""
        self._results[key] = result

    def save(self) -> None:
        """Write everything down."""
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps({"artifacts": self._artifacts, "results": self._results}, indent=1), "utf-8")
        part.replace(self._path)


def result_key(component: Mapping[str, Any], executor: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return a hash of everything by which a service knows that a task would do the same again.

    Args:
        component: its interface.
        executor: its container.
        inputs: names of its input artifacts, and values of its parameters.
    """
    return hashlib.sha256(json.dumps([component, executor, inputs], sort_keys=True).encode()).hexdigest()


def _terms(query: str) -> list[tuple[str, str]]:
    """Return field and value of each term."""
    terms, position = [], 0
    while position < len(query):
        match = _TERM.match(query, position)
        if match is None:
            raise ConfigError(f"the resolver's query {query!r} can't be read from {query[position:]!r} on")
        terms.append((match[1], match[2].strip('"')))
        position = match.end()
    return terms


def _fits(artifact: Artifact, field: str, value: str) -> bool:
    if field == "schema_title":
        return specs.title(artifact["type"]) == value
    if field == "state":
        return value == "LIVE"  # nothing is deleted in a rehearsal
    if field == "name":
        return bool(value) and artifact["name"] == value
    match = re.fullmatch(r"metadata\.(\w+)\.(number|string)_value", field)
    if match is None:
        raise ConfigError(f"a resolver asks for {field!r}, which TFX doesn't write")
    actual = artifact.get("metadata", {}).get(match[1])
    if match[2] == "number":
        return isinstance(actual, (int, float)) and float(actual) == float(value)
    return actual == value
