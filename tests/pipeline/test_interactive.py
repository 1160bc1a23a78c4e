"""What a run prints in a cell, and what it hands on to the runner."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.running
from pipeline.interactive import StageLines, output, run
from pipeline.records import FAILED, HIT, RAN, REFUSED, RESOLVED, SUCCEEDED, StageRecord, new_record


def finished(state=SUCCEEDED, **fields):
    """Return a record whose run is over."""
    record = new_record("shapes", "shapes.yaml", "run.log", "f")
    record.state = state
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def test_a_stage_that_executes_gets_one_line_with_its_reason(capsys):
    lines, stage = StageLines(Path("/w")), StageRecord("Trainer", RAN, "train.epochs 8 -> 9", "9 epochs")
    lines.stage_runs(stage)
    assert capsys.readouterr().out == "Trainer           MISS"
    lines.stage_finished(stage)
    assert capsys.readouterr().out == "    9 epochs (train.epochs 8 -> 9)\n"


def test_a_stage_from_the_cache_gets_one_line_without_the_run_that_it_is_from(capsys):
    StageLines(Path("/w")).stage_finished(StageRecord("ExampleGen", HIT, "nothing changed since run 2026", "12 images"))
    assert capsys.readouterr().out == "ExampleGen        HIT     12 images\n"


def test_paths_in_the_work_directory_are_shown_below_it(capsys):
    StageLines(Path("/w")).stage_finished(StageRecord("Resolver", RESOLVED, detail="the model in /w/artifacts/7"))
    assert capsys.readouterr().out == "Resolver          lookup  the model in artifacts/7\n"


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (finished(stages=[StageRecord("Trainer", RAN)], version=3), "succeeded: version 3 is published\n"),
        (finished(stages=[StageRecord("Trainer", HIT)], version=3), "succeeded: nothing had changed\n"),
        (finished(REFUSED, error="no label"), "refused: no label\n"),
        (finished(REFUSED, verdicts=[{"passed": False, "sentence": "accuracy is 0.5"}]), "refused: accuracy is 0.5\n"),
        (finished(stages=[StageRecord("ExampleGen", RAN)]), "succeeded\n"),
    ],
)
def test_the_last_line_says_how_the_run_ended(record, sentence, capsys):
    StageLines(Path("/w")).run_finished(record)
    assert capsys.readouterr().out == sentence


def test_a_stage_that_fails_leaves_no_half_line(capsys):
    lines = StageLines(Path("/w"))
    lines.stage_runs(StageRecord("Trainer"))
    lines.run_finished(finished(FAILED, error="no memory"))
    assert capsys.readouterr().out == "Trainer           MISS\nfailed: no memory\n"


def test_an_output_is_found_by_stage_and_name():
    stages = [StageRecord("Trainer", outputs=["w/Trainer/model/7", "w/Trainer/model_run/7"]), StageRecord("Pusher")]
    record = finished(stages=stages)
    assert str(output(record, "Trainer", "model_run")) == "w/Trainer/model_run/7"
    with pytest.raises(KeyError, match="Trainer has model, model_run"):
        output(record, "Trainer", "history")
    with pytest.raises(KeyError, match="the stages are Trainer, Pusher"):
        output(record, "Tuner", "tuner_results")


def test_a_run_gets_overrides_and_end_and_logs_to_its_file(tmp_path, monkeypatch):
    config = tmp_path / "digits.yaml"
    config.write_text("name: digits\ndata: {source: digits}\ntransform: {size: [8, 8]}\n", encoding="utf-8")

    def fake(loaded, workdir, log, options, observer):
        assert (loaded.config.train.epochs, options.to_stage, workdir.root) == (3, "Trainer", tmp_path / "work")
        assert log.parent == workdir.logs
        logging.getLogger("somebody").warning("in the log only")
        observer.stage_finished(StageRecord("Trainer", RAN, "first run", "3 epochs"))
        return finished()

    monkeypatch.setattr(pipeline.running, "run_pipeline", fake)
    record = run(config, "train.epochs=3", workdir=tmp_path / "work", to="Trainer")
    assert record.state == SUCCEEDED
    (log,) = (tmp_path / "work" / "logs").iterdir()
    assert "in the log only" in log.read_text(encoding="utf-8")


def test_libraries_log_nothing_into_the_cells_of_a_notebook_that_was_set_up():
    # A process of its own: pytest gives the root logger handlers, and TensorFlow looks at them when it is imported.
    cells = "import logging, sys; sys.ps1 = '>>>'; from pipeline.interactive import set_up; set_up(); import tensorflow"
    cells += "; tensorflow.get_logger().warning('noise'); logging.getLogger('absl').error('noise'); print('done')"
    done = subprocess.run([sys.executable, "-c", cells], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
