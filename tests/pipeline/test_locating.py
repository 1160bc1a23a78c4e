"""Finding what was published, also after the work directory was copied or moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.locating import serving_base
from pipeline.records import RunRecord, records
from pipeline.workdir import WorkDir


def published(root: Path, served: Path | None) -> WorkDir:
    """A work directory with a run that published a version, or none."""
    place = WorkDir(root)
    place.create()
    record = RunRecord("2026-11-23", "pictures", "p.yaml", "now", 1, str(place.logs / "the.log"), "f")
    record.served = str(served or "")
    record.save(place.records)
    return place


def test_a_copy_has_its_own_versions(tmp_path: Path) -> None:
    first = published(tmp_path / "first", tmp_path / "first/served/1")
    assert serving_base(first) == tmp_path / "first/served"
    shutil.copytree(first.root, tmp_path / "second")
    assert serving_base(WorkDir(tmp_path / "second")) == tmp_path / "second/served"


def test_versions_outside_the_work_directory_stay_where_they_are(tmp_path: Path) -> None:
    first = published(tmp_path / "first", tmp_path / "models/pictures/1")
    shutil.move(first.root, tmp_path / "second")
    assert serving_base(WorkDir(tmp_path / "second")) == tmp_path / "models/pictures"


def test_before_anything_is_published_the_next_steps_are_named(tmp_path: Path) -> None:
    place = published(tmp_path, None)
    assert next(records(place.records)).served == ""
    with pytest.raises(ConfigError, match="has published a model yet; `slipway status` says why"):
        serving_base(place)
    with pytest.raises(ConfigError, match="has published a mobile bundle yet"):
        serving_base(place, "edge")
