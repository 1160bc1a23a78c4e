"""Finding the work directory and the published versions that a command is about.

Comes in: what the user named (a config, a work directory, or nothing). Goes out: paths. Called by the commands that
look at runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.config.loading import load
from pipeline.errors import ConfigError
from pipeline.records import RunRecord, records
from pipeline.workdir import WorkDir

PublishedKind = Literal["model", "edge", "forms"]
"""What a run publishes: the SavedModel, the mobile bundle, the forms for other servers."""

_RECORDED: dict[PublishedKind, tuple[str, str]] = {
    "model": ("served", "a model"),
    "edge": ("bundle", "a mobile bundle"),
    "forms": ("forms", "forms for servers"),
}


def find_workdir(config: Path | None, workdir: Path | None) -> WorkDir:
    """Return the work directory: the one named, that of the config, or that of the newest run below `runs/`.

    Args:
        config: a YAML file, or None.
        workdir: a work directory, or None.

    Raises:
        ConfigError: there is no such directory, or no run was made yet.
    """
    if workdir is not None or config is not None:
        found = WorkDir.of("", workdir) if workdir is not None else WorkDir.of(load(config).config.name)  # type: ignore[arg-type]
        if not found.records.is_dir():
            raise ConfigError(f"{found.root} holds no runs; start one with `slipway run`")
        return found
    newest: tuple[str, Path] | None = None
    for folder in Path("runs").glob("*"):
        last = next(records(folder / "runs"), None)
        if last is not None and (newest is None or last.stem > newest[0]):
            newest = (last.stem, folder)
    if newest is None:
        raise ConfigError(
            f"there is no run below {Path('runs').absolute()}; start one with `slipway run`, or name the work "
            "directory with --workdir"
        )
    return WorkDir(newest[1].absolute())


def last_run(workdir: WorkDir) -> RunRecord:
    """Return the newest run of a work directory.

    Raises:
        ConfigError: there is none.
    """
    last = next(records(workdir.records), None)
    if last is None:
        raise ConfigError(f"{workdir.root} holds no runs; start one with `slipway run`")
    return last


def run_named(workdir: WorkDir, name: str) -> RunRecord:
    """Return the record of a run.

    Args:
        workdir: the work directory.
        name: its id, or a beginning that no other run's id has.

    Raises:
        ConfigError: no run is called so, or several are.
    """
    known = list(records(workdir.records))
    exact = [record for record in known if record.run_id == name]
    found = exact or [record for record in known if record.run_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    ids = [record.run_id for record in found or known]
    listed = ", ".join(ids[:5]) + (" and more" if len(ids) > 5 else "")
    if found:
        raise ConfigError(f"received the run {name!r}, which {len(ids)} runs begin with: {listed}; give more of the id")
    raise ConfigError(f"received the run {name!r}; expected one of {workdir.root}: {listed or 'none yet'}")


def serving_base(workdir: WorkDir, kind: PublishedKind = "model") -> Path:
    """Return the folder of the published versions of a work directory.

    Args:
        workdir: the work directory.
        kind: what was published.

    Raises:
        ConfigError: nothing of the kind was published yet.
    """
    field, words = _RECORDED[kind]
    for record in records(workdir.records):
        if folder := getattr(record, field):
            return _here(Path(folder).parent, record, workdir)
    raise ConfigError(
        f"no run in {workdir.root} has published {words} yet; `slipway status` says why, `slipway run` starts another"
    )


def _here(folder: Path, record: RunRecord, workdir: WorkDir) -> Path:
    """Return where a folder of a record lies now; the work directory may have been copied or moved since the run."""
    root = Path(record.log).parents[1] if record.log else workdir.root
    return workdir.root / folder.relative_to(root) if folder.is_relative_to(root) else folder
