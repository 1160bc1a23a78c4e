"""Fixtures of the tests of the serving room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.saved_models import (
    LABELS,
    add_warmup,
    build_classifier,
    encode_png,
    make_plain_model,
    picture,
    to_example,
)
from tests.serving.server.tflite_files import build_tflite

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SavedModel of a classifier with warm-up requests; read only, copy it to damage it."""
    directory = tmp_path_factory.mktemp("models") / "classifier"
    build_classifier(directory)
    add_warmup(directory)
    return directory


@pytest.fixture()
def classifier_copy(classifier_dir: Path, tmp_path: Path) -> Path:
    """A copy of the classifier that a test may change."""
    return Path(shutil.copytree(classifier_dir, tmp_path / "copy"))


@pytest.fixture(scope="session")
def example_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gzipped TFRecord file of ten tf.Examples."""
    import tensorflow as tf

    path = tmp_path_factory.mktemp("examples") / "eval-00000-of-00001.gz"
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for seed in range(10):
            writer.write(to_example(encode_png(picture(seed)), seed % len(LABELS)))
    return path


@pytest.fixture(scope="session")
def tflite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TFLite file with the signature `predict`: y = x * [1, 2, 3] + 1; read only."""
    file = tmp_path_factory.mktemp("tflite") / "model.tflite"
    build_tflite(file)
    return file


@pytest.fixture()
def plain_model(tmp_path: Path) -> Path:
    """Files in the layout of a SavedModel, for tests that only move them; TensorFlow never reads them."""
    return make_plain_model(tmp_path / "plain")


@pytest.fixture()
def plain_models(tmp_path: Path) -> Callable[[str], Path]:
    """Factory of directories that look like SavedModels, each with its own content."""
    return lambda content: make_plain_model(tmp_path / f"model-{content}", content.encode())


@pytest.fixture()
def base(tmp_path: Path) -> Path:
    """Base directory that does not exist yet."""
    return tmp_path / "served" / "pets"
