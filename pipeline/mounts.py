"""Objects in buckets as files: one mapping between the URIs of a cloud and the paths that a container sees.

Vertex AI mounts every bucket below `/gcs`, and the launcher of Kubeflow Pipelines copies what a container reads and
writes to `/gcs`, `/s3` or `/minio`. So `gs://bucket/x` is the file `/gcs/bucket/x`, and code that works on files works
in both. Used where artifacts enter and leave a container, and where a pipeline for one of them is compiled.
"""

from __future__ import annotations

import os

MOUNT_ROOT = "SLIPWAY_MOUNT_ROOT"
"""Environment variable: a folder that stands for the container's root, for a rehearsal on one machine."""

FOLDERS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""Folder of each scheme."""


def is_remote(path: str) -> bool:
    """Return whether a path is the URI of something in a bucket."""
    return path.startswith(tuple(FOLDERS))


def local_path(uri: str) -> str:
    """Return the path at which a container sees a URI; a path is returned as it is."""
    for scheme, folder in FOLDERS.items():
        if uri.startswith(scheme):
            return os.environ.get(MOUNT_ROOT, "").rstrip("/") + folder + uri[len(scheme) :]
    return uri


def remote_uri(path: str) -> str:
    """Return the URI behind a path of `local_path`; another path is returned as it is."""
    root = os.environ.get(MOUNT_ROOT, "").rstrip("/")
    for scheme, folder in FOLDERS.items():
        if path.startswith(root + folder):
            return scheme + path[len(root + folder) :]
    return path
