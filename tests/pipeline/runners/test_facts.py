"""What a person reads about a finished stage, from files as the stages leave them."""

from __future__ import annotations

import json

import pytest

from pipeline.evaluation.verdict import Verdict, write_verdict
from pipeline.runners.facts import stage_facts


def test_an_ingestion_names_counts_and_what_was_odd(tmp_path):
    report = {
        "written": 1200,
        "labels": ["a", "b"],
        "examples": {"train": {"a": 500, "b": 500}, "test": {"a": 100, "b": 100}},
        "unreadable": {"count": 3},
        "duplicates": {"copies": 2},
        "conflicts": {"contents": 1},
    }
    (tmp_path / "ingest_report.json").write_text(json.dumps(report), encoding="utf-8")
    assert stage_facts("ExampleGen", {"examples": [str(tmp_path)]}).sentence == (
        "1,200 images in 2 classes: train 1,000, test 200; 3 unreadable; 2 exact copies; 1 images under two labels"
    )


def test_a_training_names_its_epochs_and_accuracy(tmp_path):
    history = [{"accuracy": 0.5, "eval_accuracy": 0.4}, {"accuracy": 0.75, "eval_accuracy": 0.7}]
    (tmp_path / "history.json").write_text(json.dumps(history), encoding="utf-8")
    sentence = stage_facts("Trainer", {"model": ["none"], "model_run": [str(tmp_path)]}).sentence
    assert sentence == "2 epochs: accuracy 0.7500, on eval 0.7000"


@pytest.mark.parametrize(
    ("processes", "replicas", "said"), [(1, 1, ""), (1, 4, ", on 4 devices"), (2, 4, ", on 4 devices of 2 processes")]
)
def test_a_training_on_several_devices_says_so(tmp_path, processes, replicas, said):
    (tmp_path / "history.json").write_text('[{"accuracy": 0.5, "eval_accuracy": 0.4}]', encoding="utf-8")
    record = {"strategy": "workers", "processes": processes, "replicas": replicas}
    (tmp_path / "distribution.json").write_text(json.dumps(record), encoding="utf-8")
    sentence = stage_facts("Trainer", {"model_run": [str(tmp_path)]}).sentence
    assert sentence == f"1 epochs: accuracy 0.5000, on eval 0.4000{said}"


def test_a_search_names_what_it_found(tmp_path):
    values = {"learning_rate": 0.00123456, "batch": 32}
    (tmp_path / "best_hyperparameters.txt").write_text(json.dumps({"values": values}), encoding="utf-8")
    sentence = stage_facts("Tuner", {"best_hyperparameters": [str(tmp_path)]}).sentence
    assert sentence == "best: learning_rate 0.001235, batch 32"
    assert stage_facts("Tuner", {"best_hyperparameters": ["nowhere"]}).sentence == ""


def test_a_publication_names_its_version(tmp_path):
    published = {"version": 4, "path": "/served/4", "passed": True}
    write_verdict(Verdict("Pusher", True, "the model was published as version 4", [published]), str(tmp_path))
    facts = stage_facts("Pusher", {"pushed_model": [str(tmp_path)]})
    assert facts.version == (4, "/served/4")
    assert facts.verdict is not None and facts.verdict.passed


def test_a_refused_push_has_no_version(tmp_path):
    write_verdict(Verdict("Pusher", False, "nothing was pushed"), str(tmp_path))
    facts = stage_facts("Pusher", {"pushed_model": [str(tmp_path)]})
    assert facts.version is None and facts.sentence == "nothing was pushed"


def test_the_baseline_is_named_or_said_to_be_missing():
    assert "no baseline" in stage_facts("Resolver", {}).sentence
    assert "models/7" in stage_facts("Resolver", {"model": ["models/7"]}).sentence
