"""Atomic publication of models below a base path, as TensorFlow Serving reads it, and rollback.

Comes in: an exported SavedModel, a mobile bundle or forms for servers. Goes out: `BASE/<number>/` with a manifest,
complete from the moment its name exists. Called by the Pusher of the pipeline, `serving.edge.publishing`,
`serving.delivery.publishing` and `slipway rollback`.

Everything happens under one lock. A version is built in `BASE/.slipway/incoming/`, a name that no model
server takes for a version, flushed to disk and renamed into place. `BASE/.slipway/record.json` keeps the
largest number ever given out, so that neither deleted directories nor the clock can bring a number back.

TensorFlow Serving takes the largest number, so a rollback publishes the old content again under a new one.
History is kept, and `restores` and `rolled_back_from` in the manifest tell what happened.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from serving import manifest as manifests
from serving.content import SAVED_MODEL, ContentKind
from serving.durable import copy_tree, exclusive_lock, move_folder, sync_directory, sync_tree, write_durably
from serving.errors import ManifestError, PublishError
from serving.manifest import MANIFEST_FILE, FileEntry, Manifest
from serving.versions import PublishedVersion, served, version_directories, versions

__all__ = ["PublishedVersion", "publish", "rollback", "served", "versions"]

_STATE = ".slipway"
_LOADED_FIRST = "saved_model.pb"
"""Model servers look for this file, and try again while it isn't there."""
_LOG = logging.getLogger("slipway.serving")


def publish(
    model_dir: str | os.PathLike[str],
    base_dir: str | os.PathLike[str],
    *,
    name: str,
    metrics: Mapping[str, float | None] | None = None,
    labels: Sequence[str] | None = None,
    config_hash: str | None = None,
    data_fingerprint: str | None = None,
    git_commit: str | None = None,
    slipway_version: str | None = None,
    keep: int | None = None,
    lock_timeout_seconds: float = 600,
    kind: ContentKind = SAVED_MODEL,
    documents: Mapping[str, str] | None = None,
) -> PublishedVersion:
    """Publish a model as the next version.

    Args:
        model_dir: The exported SavedModel, or what `kind` says; it is copied and stays untouched.
        base_dir: Base path of the model; created if missing.
        name: Name of the model.
        metrics: Metrics by name, for the manifest.
        labels: Names of the classes; by default those in the labels file of the kind, if it is there.
        config_hash: Hash of the effective config.
        data_fingerprint: Fingerprint of the training data.
        git_commit: Commit of the training code.
        slipway_version: Version of the software; by default that of the installed one.
        keep: How many versions to keep; older ones are removed, but never the served or the one before it.
            None keeps all.
        lock_timeout_seconds: How long to wait for another publication.
        kind: What is published; a base directory holds one kind only.
        documents: Texts by file name that are put beside the model, such as its card. The same model with other
            documents is the same model, so it isn't published again for their sake.

    Returns:
        The new version, or the served one with `already_published` if it holds the very same files.

    Raises:
        PublishError: The model is not of the kind, the base holds another kind, the disk is full, the base cannot
            be written, or the lock is held too long. What was published before is untouched.
        ManifestError: The model holds links or unsafe names, or a field has a wrong type.
    """
    source, base = Path(model_dir), Path(base_dir)
    kind.check(source)
    if base.resolve().is_relative_to(source.resolve()):
        raise PublishError(f"{base} lies inside the model {source}; choose a base directory outside of it.")
    if keep is not None and keep < 1:
        raise PublishError(f"keep is {keep}; expected 1 or more, or nothing to keep all versions.")
    files, carried = _parted(source)
    with _publishing(base, lock_timeout_seconds):
        current = served(base)
        if current is not None and current.manifest is not None:
            kind.check_base(base, current.manifest.files)
        version = _in_service(base, current, manifests.model_digest(files))
        if version is None:
            draft = Manifest(
                name=name,
                version=_next_number(base),
                created=_utc_now(),
                files=files,
                model_digest=manifests.model_digest(files),
                slipway_version=slipway_version or installed_version(),
                metrics=metrics or {},
                labels=tuple(kind.read_labels(source) if labels is None else labels),
                config_hash=config_hash,
                data_fingerprint=data_fingerprint,
                git_commit=git_commit,
                previous=current.number if current else None,
                documents=carried,
            )
            version = _put_in_place(source, base, draft, link=False, documents=documents or {})
        if keep is not None:
            _prune(base, keep, version)
        return version


def rollback(
    base_dir: str | os.PathLike[str], to: int | None = None, *, lock_timeout_seconds: float = 600
) -> PublishedVersion:
    """Put an earlier version back into service, by publishing its content under a new, larger number.

    Args:
        base_dir: Base path of the model.
        to: Version to bring back. By default the content in service before the present one; rolling back
            again goes one step further back, never forward to what was just given up.
        lock_timeout_seconds: How long to wait for another publication.

    Returns:
        The new version, or the served one with `already_published` if it holds that content already.

    Raises:
        PublishError: There is nothing to go back to, the version asked for does not exist or is damaged, or
            as for `publish`.
    """
    base = Path(base_dir)
    if not version_directories(base):
        raise PublishError(f"{base} holds no versions; publish a model first.")
    with _publishing(base, lock_timeout_seconds):
        known = versions(base)
        target = _previous_content(base, known) if to is None else _intact(base, known, to)
        assert target.manifest is not None, "an intact version has a manifest"
        current = next((version for version in known if version.served), None)
        existing = _in_service(base, current, target.manifest.model_digest)
        if existing is not None:
            return existing
        draft = replace(
            target.manifest,
            version=_next_number(base),
            created=_utc_now(),
            previous=current.number if current else None,
            restores=target.origin,
            rolled_back_from=known[-1].number,
        )
        return _put_in_place(target.path, base, draft, link=True)


def _previous_content(base: Path, known: Sequence[PublishedVersion]) -> PublishedVersion:
    newest = known[-1]
    intact = [version for version in known if version.ok]
    if not newest.ok:
        # The model server sees a damaged version on top; the best one below it has to come above it.
        candidates = intact
    else:
        given_up = newest.manifest.model_digest if newest.manifest else ""
        candidates = [
            version
            for version in intact
            if version.number < newest.origin and version.manifest and version.manifest.model_digest != given_up
        ]
    if not candidates:
        numbers = ", ".join(_describe(version) for version in known)
        raise PublishError(f"{base} has nothing to roll back to; it holds {numbers}. Publish a better model.")
    return candidates[-1]


def _intact(base: Path, known: Sequence[PublishedVersion], number: int) -> PublishedVersion:
    found = [version for version in known if version.number == number]
    good = next((version for version in found if version.ok), None)
    if good is not None:
        return good
    numbers = ", ".join(_describe(version) for version in known)
    if not found:
        raise PublishError(f"{base} has no version {number}; it holds {numbers}.")
    raise PublishError(
        f"version {number} of {base} is damaged: {'; '.join(found[0].problems)}. Choose an intact one: {numbers}."
    )


def _describe(version: PublishedVersion) -> str:
    return f"{version.number}{' (served)' if version.served else '' if version.ok else ' (damaged)'}"


def _in_service(base: Path, current: PublishedVersion | None, digest: str) -> PublishedVersion | None:
    """The served version, if it has this content and no damaged or foreign version stands above it."""
    if current is None or current.manifest is None or current.manifest.model_digest != digest:
        return None
    if version_directories(base)[-1][1] != current.path:
        return None
    return replace(current, already_published=True)


@contextlib.contextmanager
def _publishing(base: Path, lock_timeout_seconds: float) -> Iterator[None]:
    """Hold the lock, clear what dead processes left, and turn errors of the file system into words."""
    try:
        (base / _STATE).mkdir(parents=True, exist_ok=True)
        with exclusive_lock(base / _STATE / "lock", lock_timeout_seconds):
            # Whoever wrote there held the lock, so it is dead.
            shutil.rmtree(base / _STATE / "incoming", ignore_errors=True)
            yield
    except OSError as error:
        raise PublishError(_explain(base, error)) from error


def _explain(base: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(base).free if base.exists() else 0
        what = f"there is not enough space ({free / 2**20:.0f} MiB free). Free some"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        what = "it is not writable for this user. Change its owner or mode, or choose another directory"
    else:
        what = "the file system refuses it"
    return f"nothing was published to {base}: {what}: {error}. What is served is untouched."


def _next_number(base: Path) -> int:
    taken = [number for number, _ in version_directories(base)]
    return max([_recorded_number(base), *taken, 0]) + 1


def _recorded_number(base: Path) -> int:
    record = base / _STATE / "record.json"
    try:
        number = json.loads(record.read_text("utf-8"))["last_version"]
        if type(number) is not int or number < 0:
            raise ValueError(f"last_version is {number!r}")
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError) as error:
        raise PublishError(
            f"{record} is damaged ({error}); expected the largest version ever published, so that no "
            'number comes twice. Write {"last_version": N} into it with that number.'
        ) from error
    return number


def _put_in_place(
    source: Path, base: Path, manifest: Manifest, *, link: bool, documents: Mapping[str, str] | None = None
) -> PublishedVersion:
    incoming = base / _STATE / "incoming"
    building, final = incoming / "version", base / str(manifest.version)
    try:
        incoming.mkdir()
        copy_tree(source, building, skip=MANIFEST_FILE, link=link)
        _check_copy(source, building, manifest.everything)
        if documents:
            manifest = replace(manifest, documents=_add_documents(building, manifest.documents, documents))
        manifests.write(building, manifest)
        sync_tree(building)
        # Before the rename: a crash between the two loses a number, the other order could give it out twice.
        write_durably(base / _STATE / "record.json", json.dumps({"last_version": manifest.version}) + "\n")
        if os.path.lexists(final):
            raise PublishError(f"{final} appeared while it was being published; nothing was overwritten.")
        move_folder(building, final, last=(_LOADED_FIRST, MANIFEST_FILE))
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    try:
        sync_directory(base)
        sync_directory(base.resolve().parent)
    except OSError as error:
        _LOG.warning("version %s is in place, but may not survive a power cut: %s", final, error)
    return PublishedVersion(manifest.version, final, manifest, served=True)


def _parted(source: Path) -> tuple[tuple[FileEntry, ...], tuple[FileEntry, ...]]:
    """The files of a model, and the documents beside them if it is a published one."""
    files = manifests.describe_files(source)
    named: set[str] = set()
    if (source / MANIFEST_FILE).is_file():
        named = {entry.path for entry in manifests.read(source).documents}
    parts: tuple[list[FileEntry], list[FileEntry]] = ([], [])
    for entry in files:
        parts[entry.path in named].append(entry)
    return tuple(parts[0]), tuple(parts[1])


def _add_documents(building: Path, carried: Sequence[FileEntry], documents: Mapping[str, str]) -> tuple[FileEntry, ...]:
    """Write documents beside a model's files, over those it carried but never over a file of the model."""
    old = {entry.path for entry in carried}
    for name, text in documents.items():
        manifests.check_path(name)
        with (building / name).open("w" if name in old else "x", encoding="utf-8") as stream:
            stream.write(text)
    wanted = old | set(documents)
    return tuple(entry for entry in manifests.describe_files(building) if entry.path in wanted)


def _check_copy(source: Path, copy: Path, files: Sequence[FileEntry]) -> None:
    copied = manifests.describe_files(copy)
    if copied != tuple(sorted(files)):
        changed = sorted({entry.path for entry in set(copied) ^ set(files)})
        raise ManifestError(f"{source} changed while it was copied ({', '.join(changed)}). Publish it again.")


def _prune(base: Path, keep: int, version: PublishedVersion) -> None:
    intact = [found for found in versions(base) if found.ok]
    previous = version.manifest.previous if version.manifest else None
    protected = {version.number, previous}
    excess = [found for found in intact[: max(len(intact) - keep, 0)] if found.number not in protected]
    incoming = base / _STATE / "incoming"
    try:
        for old in excess:
            incoming.mkdir(exist_ok=True)
            # First out of the server's sight in one step, then piece by piece.
            os.rename(old.path, incoming / f"removed-{old.number}")
            sync_directory(base)
        shutil.rmtree(incoming, ignore_errors=True)
    except OSError as error:
        _LOG.warning("old versions of %s could not be removed: %s", base, error)


def installed_version() -> str:
    """Version of the installed software; `unknown` if it runs from a bare folder."""
    try:
        return metadata.version("tfx-slipway")
    except metadata.PackageNotFoundError:
        return "unknown"


def _utc_now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
