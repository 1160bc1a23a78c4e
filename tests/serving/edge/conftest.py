"""Fixtures of the tests of mobile bundles."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serving.edge.bundle import build_bundle
from tests.serving.edge import tiny


@pytest.fixture(scope="session")
def tflite_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A classifier as `float16` and `int8` file, without metadata; read only."""
    return tiny.convert(tmp_path_factory.mktemp("tflite"))


@pytest.fixture(scope="session")
def bundle(tflite_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle; read only, copy it to damage it."""
    return build_bundle(tmp_path_factory.mktemp("bundles") / "pets", tiny.contents(tflite_files))


@pytest.fixture()
def bundle_copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "copy"))
