"""Which model a candidate is compared with."""

from __future__ import annotations

from tfx.types import standard_artifacts

from pipeline.components.baseline import BaselineStrategy


def model(number: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = number
    return artifact


def blessing(number: int, of: int, blessed: bool) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.id = number
    artifact.set_int_custom_property("blessed", int(blessed))
    artifact.set_int_custom_property("current_model_id", of)
    return artifact


def resolved(candidate: int, *blessings: standard_artifacts.ModelBlessing) -> list[int]:
    inputs = {
        "model": [model(number) for number in (1, 2, 3)],
        "model_blessing": list(blessings),
        "candidate": [model(candidate)],
    }
    outputs = BaselineStrategy().resolve_artifacts(None, inputs)
    assert len(outputs["model"]) == len(outputs["model_blessing"])
    return [artifact.id for artifact in outputs["model"]]


def test_nothing_was_blessed_yet():
    assert resolved(1) == []
    assert resolved(2, blessing(10, of=1, blessed=False)) == []


def test_the_latest_blessed_model_is_the_baseline():
    assert resolved(3, blessing(10, 1, True), blessing(11, 2, True)) == [2]
    assert resolved(3, blessing(11, 2, True), blessing(10, 1, True)) == [2]


def test_a_refused_model_is_no_baseline():
    assert resolved(3, blessing(10, 1, True), blessing(11, 2, False)) == [1]


def test_a_model_is_never_its_own_baseline():
    assert resolved(2, blessing(10, 1, True), blessing(11, 2, True)) == [1]
    assert resolved(1, blessing(10, 1, True)) == []


def test_an_older_model_that_comes_back_is_compared_with_the_newer_one():
    assert resolved(1, blessing(10, 1, True), blessing(11, 2, True)) == [2]


def test_the_latest_blessing_counts_and_not_the_latest_model():
    assert resolved(3, blessing(10, 2, True), blessing(12, 1, True)) == [1]


def test_a_blessing_whose_model_is_gone_is_passed_over():
    assert resolved(3, blessing(10, 1, True), blessing(11, 99, True)) == [1]
