"""Publication of a mobile bundle, as atomic as that of a SavedModel.

Comes in: a bundle. Goes out: `BASE/<number>/` with `manifest.json`; `serving.publish.rollback` and
`serving.versions.versions` work on it as they do on SavedModels. Called by the EdgePusher of the pipeline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from serving.content import EDGE_BUNDLE
from serving.edge.card import CARD_FILE, ModelCard
from serving.edge.verify import verify_bundle
from serving.errors import BundleError
from serving.publish import publish
from serving.versions import PublishedVersion


def publish_bundle(
    bundle_dir: str | os.PathLike[str],
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
    """Publish a bundle as the next version.

    Args:
        bundle_dir: What `build_bundle` made; it is verified (without running the models) and copied.
        base_dir: Base directory of the bundles of this model; not that of its SavedModels.
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
        BundleError: The folder is no bundle, or does not hold what it promises.
        PublishError: As for `serving.publish.publish`.
    """
    source = Path(bundle_dir)
    EDGE_BUNDLE.check(source)
    failed = [finding for finding in verify_bundle(source, runtime="none") if finding.status == "failed"]
    if failed:
        raise BundleError(f"{source} does not hold what it promises: {'; '.join(map(str, failed))}")
    card = ModelCard.from_json((source / CARD_FILE).read_text("utf-8"))
    return publish(
        source,
        base_dir,
        name=card.name,
        metrics=metrics,
        labels=card.labels,
        config_hash=config_hash,
        data_fingerprint=data_fingerprint,
        git_commit=git_commit,
        keep=keep,
        lock_timeout_seconds=lock_timeout_seconds,
        documents=documents,
        kind=EDGE_BUNDLE,
    )
