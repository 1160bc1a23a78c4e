"""Garbage collection: removing artifacts on which nothing that matters depends.

Comes in: the history. Goes out: `Plan`, which says what would go and what stays and why; `collect` carries it out.
Called by `slipway runs gc`.

An artifact is first marked in the metadata store, from which moment TFX's cache and resolvers pass it over; then its
folder is renamed away, removed, and the artifact marked as deleted. So a process that is killed anywhere in between
leaves nothing that a run would take for whole, and the next collection finishes the work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.history.folders import TRASH, Places, empty, remove, remove_if_empty, tree_size
from pipeline.history.keeping import Graph, Kept, kept, read_graph
from pipeline.history.runs import History
from pipeline.metadata import DELETED, MARKED

if TYPE_CHECKING:
    from pipeline.metadata import StoredArtifact

_SYSTEM = (".system", "executor_execution")
"""Where TFX leaves what an executor said, below the folder of a stage."""


@dataclass(frozen=True)
class Item:
    """An artifact that goes."""

    artifact: StoredArtifact
    stage: str
    size: int
    """Bytes of its files; 0 if they are gone already."""


@dataclass(frozen=True)
class Leftover:
    """A folder that goes although no artifact is in it: an execution that was killed left it."""

    path: Path
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Plan:
    """What a collection does."""

    items: list[Item]
    leftovers: list[Leftover]
    skipped: list[tuple[StoredArtifact, str]]
    """Artifacts that nothing depends on and that are left alone all the same, with the reason."""
    kept: dict[int, str]
    """Why each other artifact stays, by id."""
    kept_size: int
    """Bytes of what stays."""
    executions: list[tuple[str, int]] = field(default_factory=list)
    """Stage and id of those whose artifacts go."""

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(item.size for item in self.items) + sum(leftover.size for leftover in self.leftovers)


def plan(history: History, keep: int, older_than: float | None = None) -> Plan:
    """Return what would go.

    Args:
        history: of the work directory.
        keep: number of newest runs that are kept whole, at least 1.
        older_than: only what no run of so many last days used goes.

    Raises:
        ConfigError: there is no metadata store, or `keep` is too small.
    """
    if keep < 1:
        raise ConfigError(
            f"--keep: received {keep}; expected at least 1, since the newest run is where the next goes on"
        )
    if older_than is not None and older_than < 0:
        raise ConfigError(f"--older-than: received {older_than:g}; expected a number of days")
    if history.reader is None:
        raise ConfigError(f"{history.workdir.root} holds no metadata store, so there is nothing to collect")
    graph = read_graph(history)
    stays = kept(history, graph, keep, older_than)
    root = history.workdir.artifacts
    places = Places(root, {*(graph.artifacts[i].uri for i in stays.reasons), *stays.folders})
    items: list[Item] = []
    skipped = []
    for artifact in graph.artifacts.values():
        if artifact.id in stays.reasons or artifact.state == DELETED:
            continue
        place = places.locate(artifact.uri)
        if isinstance(place, str):
            skipped.append((artifact, place))
        else:
            items.append(Item(artifact, place.parts[0], tree_size(root / place)))
    executions = sorted({(i.stage, graph.origin[i.artifact.id]) for i in items if i.artifact.id in graph.origin})
    kept_size = sum(tree_size(Path(uri)) for uri in {graph.artifacts[i].uri for i in stays.reasons} if uri)
    leftovers = _leftovers(history, graph, stays)
    return Plan(items, leftovers, skipped, stays.reasons, kept_size, executions)


def collect(history: History, todo: Plan) -> list[str]:
    """Carry a plan out; the caller holds the lock of the work directory since before the plan was made.

    Args:
        history: of the work directory.
        todo: what goes.

    Returns:
        A sentence for each folder that could not be removed; what is in it goes with the next collection.
    """
    assert history.reader is not None, "a plan is made from a store"
    root = history.workdir.artifacts
    trash = root / TRASH
    problems = [problem] if (problem := empty(trash)) else []
    history.reader.set_state((item.artifact.id for item in todo.items), MARKED)
    removed = []
    for item in todo.items:
        problem = remove(Path(item.artifact.uri), trash)
        if problem:
            problems.append(problem)
        else:
            removed.append(item.artifact.id)
    history.reader.set_state(removed, DELETED)
    for leftover in todo.leftovers:
        if problem := remove(leftover.path, trash):
            problems.append(problem)
    for stage, execution in todo.executions if not problems else ():
        remove(root.joinpath(stage, *_SYSTEM, str(execution)), trash)
    _prune({Path(item.artifact.uri).parent for item in todo.items})
    remove_if_empty(trash)
    return problems


def _leftovers(history: History, graph: Graph, stays: Kept) -> list[Leftover]:
    """Return folders of known executions that hold no artifact."""
    assert history.reader is not None, "a plan is made from a store"
    known_uris = {artifact.uri for artifact in graph.artifacts.values() if artifact.state != DELETED}
    found = dict(Places(history.workdir.artifacts, known_uris | stays.folders).execution_folders())
    known = {e.id for e in history.reader.executions(found.values())} - stays.executions
    return [Leftover(path, tree_size(path)) for path, execution in found.items() if execution in known]


def _prune(folders: Iterable[Path]) -> None:
    """Remove folders of executions that are empty now; variants lie in one together."""
    for folder in folders:
        if folder.name.isascii() and folder.name.isdigit():
            remove_if_empty(folder)
