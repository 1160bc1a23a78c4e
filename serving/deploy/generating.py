"""Writing of deployment files, without losing what somebody changed by hand.

Comes in: `DeploySettings`. Goes out: a folder of files, and a record of what was written with SHA-256. Called by the
command line.

A file that was changed after it had been generated is never overwritten unless asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.deploy import dashboard, proxying, rendering
from serving.deploy.settings import DeploySettings
from serving.durable import exclusive_lock, write_durably
from serving.errors import ServingError

RECORD = ".slipway-deploy.json"
_LOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Generated:
    """What became of each file, by path relative to the folder, sorted."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def generate(settings: DeploySettings, out_dir: str | os.PathLike[str], *, force: bool = False) -> Generated:
    """Write the deployment files of a model.

    Args:
        settings: what they are made from.
        out_dir: the folder; made if missing, and never emptied.
        force: overwrite files that were changed by hand.

    Returns:
        What was written, what was as it should be already, and what was removed because it is no longer made.

    Raises:
        ServingError: the folder cannot be written, or files in it were not written by this function or changed
            since.
    """
    return write_files(out_dir, _contents(settings), force=force)


def write_files(
    out_dir: str | os.PathLike[str], files: Mapping[str, str], *, record: str = RECORD, force: bool = False
) -> Generated:
    """Write generated files, and remove those of the last time that are no longer made.

    Args:
        out_dir: the folder; made if missing, and never emptied.
        files: content by path relative to the folder.
        record: name of the file that says what was generated.
        force: overwrite files that were changed by hand.

    Returns:
        What became of each file.

    Raises:
        ServingError: the folder cannot be written, or files in it were not written by this function or changed
            since.
    """
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(folder / f"{record}.lock", _LOCK_SECONDS):
            return _write(folder, files, record, force)
    except OSError as error:
        raise ServingError(f"{error.filename or folder} cannot be written: {error.strerror}.") from error


def _contents(settings: DeploySettings) -> dict[str, str]:
    files = {**rendering.render(settings), **proxying.render(settings)}
    files["monitoring/grafana/dashboards/slipway.json"] = dashboard.render(settings)
    return dict(sorted(files.items()))


def _write(folder: Path, files: Mapping[str, str], record: str, force: bool) -> Generated:
    known = _read_record(folder / record)
    made = {path: _digest(text.encode()) for path, text in files.items()}
    on_disk = {path: _digest_of(folder / path) for path in {*files, *known}}
    foreign = sorted(
        path
        for path, digest in on_disk.items()
        if digest is not None and digest not in known.get(path, ()) and digest != made.get(path)
    )
    if foreign and not force:
        raise ServingError(
            f"{', '.join(foreign[:5])}{f' and {len(foreign) - 5} more' if len(foreign) > 5 else ''} in {folder} would "
            "be overwritten, but was changed since it was generated. Generate into another folder and compare, or "
            "overwrite with --force."
        )
    written = [path for path in files if on_disk[path] != made[path]]
    removed = sorted(path for path in known if path not in files and on_disk[path] is not None)
    # Both states of every file are on record before the first one changes, so that a crash half-way leaves nothing
    # that looks changed by hand.
    _write_record(folder / record, {path: [*known.get(path, ()), *filter(None, [made.get(path)])] for path in on_disk})
    for path in written:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, files[path])
    for path in removed:
        (folder / path).unlink()
    _write_record(folder / record, {path: [digest] for path, digest in made.items()})
    return Generated(tuple(written), tuple(path for path in files if path not in written), tuple(removed))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(path: Path) -> str | None:
    try:
        return _digest(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise ServingError(f"{path} is a folder; a file of that name is to be written. Move it away.") from None


def _read_record(path: Path) -> dict[str, list[str]]:
    """Digests that were generated, by path; a damaged record counts as none, which overwrites nothing."""
    try:
        record = json.loads(path.read_text("utf-8"))
        return {name: list(digests) for name, digests in record["files"].items() if _stays_inside(name)}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _stays_inside(path: str) -> bool:
    return not os.path.isabs(path) and ".." not in Path(path).parts


def _write_record(path: Path, files: Mapping[str, list[str]]) -> None:
    write_durably(path, json.dumps({"files": dict(sorted(files.items()))}, indent=1) + "\n")
