"""Publication of forms for servers, as atomic as that of a SavedModel.

Comes in: a folder that `build_delivery` made. Goes out: `BASE/<number>/` with `manifest.json`;
`serving.publish.rollback` and `serving.versions.versions` work on it as they do on SavedModels. Called by the
FormPusher of the pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from serving.content import SERVER_FORMS
from serving.delivery.folder import check_folder
from serving.publish import publish
from serving.versions import PublishedVersion


def publish_delivery(
    folder: str | os.PathLike[str],
    base_dir: str | os.PathLike[str],
    *,
    metrics: Mapping[str, float | None] | None = None,
    config_hash: str | None = None,
    data_fingerprint: str | None = None,
    git_commit: str | None = None,
    keep: int | None = None,
    lock_timeout_seconds: float = 600,
    documents: Mapping[str, str] | None = None,
) -> PublishedVersion:
    """Publish a folder of forms as the next version.

    Args:
        folder: What `build_delivery` made; it is checked and copied.
        base_dir: Base directory of the forms of this model; not that of its SavedModels or bundles.
        metrics: Metrics by name, for the manifest.
        config_hash: Hash of the effective config.
        data_fingerprint: Fingerprint of the training data.
        git_commit: Commit of the training code.
        keep: How many versions to keep; None keeps all.
        lock_timeout_seconds: How long to wait for another publication.
        documents: Texts by file name that are put beside it; see `serving.publish.publish`.

    Returns:
        The new version, or the newest with `already_published` if it holds the very same files.

    Raises:
        BundleError: The folder does not hold what it promises.
        PublishError: As for `serving.publish.publish`.
    """
    source = Path(folder)
    SERVER_FORMS.check(source)
    index = check_folder(source)
    return publish(
        source,
        base_dir,
        name=index.name,
        metrics=metrics,
        config_hash=config_hash,
        data_fingerprint=data_fingerprint,
        git_commit=git_commit,
        keep=keep,
        lock_timeout_seconds=lock_timeout_seconds,
        documents=documents,
        kind=SERVER_FORMS,
    )
