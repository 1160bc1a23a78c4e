"""A model of other classes is no baseline: its answers mean something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from pipeline.components.evaluator import of_the_same_classes
from tests.pipeline.components.artifacts import made


def model(folder: Path, classes: str | None) -> standard_artifacts.Model:
    artifact = made(standard_artifacts.Model, folder)
    extra = folder / "Format-Serving" / "assets.extra"
    extra.mkdir(parents=True)
    if classes is not None:
        (extra / "labels.txt").write_text(classes, encoding="utf-8")
    return artifact


@pytest.mark.parametrize(
    ("old", "new", "compared"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "b\na\n", False),
        ("a\nb\n", "a\nb\nc\n", False),
        (None, "a\nb\n", False),
        (None, None, True),
    ],
)
def test_only_a_model_of_the_same_classes_is_compared_with(tmp_path, old, new, compared):
    baseline, candidate = model(tmp_path / "old", old), model(tmp_path / "new", new)
    found, remark = of_the_same_classes([baseline], candidate)
    assert (found == [baseline]) is compared
    assert bool(remark) is not compared


def test_without_a_baseline_there_is_nothing_to_say(tmp_path):
    assert of_the_same_classes([], model(tmp_path / "new", "a\n")) == ([], "")
