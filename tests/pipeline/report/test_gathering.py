"""What is found of a run: everything where it is whole, and what is left where files are gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.report.gathering import gather
from tests.pipeline.report.made_up import HISTORY, LABELS, MadeUp


def test_all_sections_of_a_whole_run(project: MadeUp):
    found = gather(project.run("2026-a", baseline=0.8, number=10))
    assert found.ingestion is not None and found.ingestion["written"] == 27
    assert found.history == HISTORY
    assert [trial["trial_id"] for trial in found.trials] == ["1", "0"]
    assert found.evaluation is not None
    assert found.evaluation.overall["accuracy"] == 0.9
    assert found.evaluation.baseline is not None and found.evaluation.baseline["accuracy"] == 0.8
    assert found.evaluation.support == dict.fromkeys(LABELS, 2)
    assert [name for name, _ in found.evaluation.slices] == [f"label_name = {LABELS[0]}"]
    assert found.predictions is not None
    assert (found.predictions.examples, found.predictions.wrong) == (2, 1)
    assert found.predictions.mistakes[0].predicted == LABELS[1]
    assert found.forms is not None


@pytest.mark.parametrize(
    ("stage", "attribute"),
    [("ExampleGen", "ingestion"), ("Evaluator", "evaluation"), ("Optimizer", "forms"), ("BulkInferrer", "predictions")],
)
def test_a_section_whose_files_are_gone_is_left_out(project: MadeUp, stage: str, attribute: str):
    number = 20 + sum(map(ord, stage))
    record = project.run("2026-b", number=number)
    for folder in record.stage(stage).outputs:
        shutil.rmtree(folder)
    found = gather(record)
    assert getattr(found, attribute) is None
    assert found.history == HISTORY


def test_a_damaged_file_leaves_its_section_out(project: MadeUp):
    record = project.run("2026-c", number=50)
    Path(record.stage("Trainer").outputs[0], "history.json").write_text('[{"epoch": 1', encoding="utf-8")
    assert gather(record).history == []


@pytest.mark.parametrize(
    ("stage", "file", "attribute", "left"),
    [
        ("Evaluator", "summary.json", "evaluation", None),
        ("BulkInferrer", "predictions-0.csv", "predictions", None),
        ("Tuner", "tuner_results.json", "trials", []),
    ],
)
def test_a_file_of_another_shape_leaves_its_section_out(project: MadeUp, stage: str, file: str, attribute: str, left):
    record = project.run("2026-shape", number=53 + len(stage))
    Path(record.stage(stage).outputs[0], file).write_text("{}" if left is None else "[", encoding="utf-8")
    if file.endswith(".csv"):
        Path(record.stage(stage).outputs[0], file).write_text("a,b\n1,2\n", encoding="utf-8")
    assert getattr(gather(record), attribute) == left


def test_files_that_were_removed_and_those_in_a_bucket(project: MadeUp):
    record = project.run("2026-gone", number=52)
    shutil.rmtree(record.stage("Trainer").outputs[0])
    record.stage("Tuner").outputs = ["gs://bucket/tuner"]
    assert gather(record).gone == ["Trainer"]


def test_an_interrupted_run_has_what_it_reached(project: MadeUp):
    record = project.run("2026-d", number=51)
    record.stages = record.stages[:1]
    found = gather(record)
    assert found.ingestion is not None and found.evaluation is None and found.history == []
