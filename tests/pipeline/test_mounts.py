"""URIs of buckets as paths, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.mounts import FOLDERS, MOUNT_ROOT, is_remote, local_path, remote_uri

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=12)


def test_a_bucket_is_a_folder_of_the_container() -> None:
    assert local_path("gs://bucket/a/b.txt") == "/gcs/bucket/a/b.txt"
    assert local_path("minio://mlpipeline/x") == "/minio/mlpipeline/x"
    assert local_path("s3://b") == "/s3/b"


def test_a_path_stays_as_it_is() -> None:
    assert local_path("/data/pictures") == "/data/pictures"
    assert remote_uri("/data/pictures") == "/data/pictures"
    assert not is_remote("/gcs/bucket") and is_remote("gs://bucket")


def test_a_rehearsal_puts_everything_below_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MOUNT_ROOT, "/tmp/rehearsal/")
    assert local_path("gs://bucket/a") == "/tmp/rehearsal/gcs/bucket/a"
    assert remote_uri("/tmp/rehearsal/gcs/bucket/a") == "gs://bucket/a"
    assert remote_uri("/gcs/bucket/a") == "/gcs/bucket/a"


@given(st.sampled_from(sorted(FOLDERS)), st.lists(NAMES, min_size=1, max_size=4))
def test_every_uri_comes_back(scheme: str, parts: list[str]) -> None:
    uri = scheme + "/".join(parts)
    assert remote_uri(local_path(uri)) == uri
